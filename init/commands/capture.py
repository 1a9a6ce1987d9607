"""`meshdns capture`: the commands. Each enters the namespace, asks the library, prints, and gives an exit code."""

from __future__ import annotations

import importlib.metadata
import pwd
import time

import click

from meshdns.capture.apply.backend import BACKENDS, Backend, choose
from meshdns.capture.apply.choice import choose_working, installed, remove_elsewhere, uninstall_everywhere
from meshdns.capture.apply.compare import Condition, compare, differences
from meshdns.capture.apply.install import Installation, inspect, new_record
from meshdns.capture.apply.install import install as apply_install
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.plan import plan as plan_rules
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Packet, simulate
from meshdns.capture.policy.spec import Address, CaptureSpec, Family
from meshdns.capture.system.namespace import addresses, entered, locked
from meshdns.capture.system.notes import dismiss_watch
from meshdns.init import capture_report as report
from meshdns.init.capture_options import SETTINGS, any_given, place_options, spec_options, to_spec
from meshdns.init.late import LateGroup
from meshdns.init.parameters import ADDRESS, GROUP, INTERFACE, PORT, USER

DRIFT = 10
FORMATS = ("text", "json", "nft", "iptables")
READERS = {"nft": "nft", "iptables": "iptables-nft"}
"""Whose rules a plan for a program holds, unless a backend was asked for that reads it as well."""
ELSEWHERE = "(another)"
"""Stands for "any interface but lo": no interface can be called so."""

LATE = {
    "doctor": "meshdns.init.commands.capture_doctor",
    "verify": "meshdns.init.commands.capture_prove",
    "watch": "meshdns.init.commands.capture_watch",
}
"""Commands that stand elsewhere, so that `install` starts without them."""


@click.group(cls=LateGroup, late=LATE)
def capture() -> None:
    """Send port-53 traffic, and traffic to allocated addresses, to the local resolver and relay."""
    SETTINGS.check_environment()


@capture.command()
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="What to print.")
@spec_options
@place_options
def plan(form: str, netns: str | None, backend: str, **options: object) -> None:
    """Print what `install` would do. Changes nothing, reads no rules, needs no privilege."""
    with entered(netns):
        _print_plan(backend, _spec(options), form)


@capture.command()
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@spec_options
@place_options
def install(netns: str | None, backend: str, *, dry_run: bool, **options: object) -> None:
    """Put the rules in place of whatever was installed before, in one transaction. Safe to run again."""
    with entered(netns):
        spec = _spec(options)
        if dry_run:
            _print_plan(backend, spec, "text")
            return
        with locked():
            choice = choose_working(backend, plan_rules(spec))
            record = new_record(spec, choice.backend, _version(), int(time.time()))
            changed = apply_install(choice.backend, record, choice.held)
            replaced = remove_elsewhere(choice.backend)
    families = " and ".join(family.value for family in spec.families)
    click.echo(f"backend {choice.backend.name}: {choice.reason}")
    click.echo(f"installed for {families}" if changed else "nothing to change: it is installed already")
    for name in replaced:
        click.echo(f"removed what was installed with {name}")


@capture.command()
@place_options
def uninstall(netns: str | None, backend: str) -> None:
    """Remove everything of meshdns, whatever configuration made it. Safe to run again."""
    with entered(netns), locked():
        dismiss_watch()
        removed = uninstall_everywhere(backend)
    click.echo("removed; TCP connections that ran through the redirect may end" if removed else "nothing was installed")


@capture.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", is_flag=True, help="Exit with 10 when the rules are not as they should be.")
@spec_options
@place_options
@click.pass_context
def status(
    ctx: click.Context, /, *, netns: str | None, backend: str, as_json: bool, check: bool, **options: object
) -> int:
    """Print what is installed, by which version, since when, packets per rule, heartbeat and drift."""
    with entered(netns):
        found = _inspect(ctx, installed(backend), options)
    if as_json:
        click.echo(report.status_json(found))
    else:
        report.print_status(found)
    return DRIFT if check and found.condition is not Condition.SAME else 0


@capture.command()
@spec_options
@place_options
@click.pass_context
def diff(ctx: click.Context, /, netns: str | None, backend: str, **options: object) -> int:
    """Print expected rules (-) against live ones (+), in order; exits with 10 when they differ."""
    with entered(netns):
        found = _inspect(ctx, installed(backend), options)
    if found.condition is Condition.ABSENT:
        click.echo("nothing is installed")
    for line in found.drift:
        click.echo(line)
    return 0 if found.condition is Condition.SAME else DRIFT


@capture.command()
@click.option("--uid", type=USER, required=True, help="Who sends.")
@click.option("--gid", type=GROUP, help="Default: the user's group, else the same number.")
@click.option("--proto", type=click.Choice(["tcp", "udp", "icmp"]), required=True, help="Over what.")
@click.option("--dst", type=ADDRESS, required=True, help="Where to.")
@click.option("--dport", type=PORT, required=True, help="To which port.")
@click.option("--src", type=ADDRESS, help="Where from.")
@click.option("--out-interface", type=INTERFACE, help="Default: lo for an address of this machine, else any other.")
@click.option("--in-interface", type=INTERFACE, help="The packet comes from outside, by this interface.")
@click.option("--resolver", type=click.Choice(["up", "down"]), default="up", show_default=True, help="Its state.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@spec_options
@place_options
@click.pass_context
def explain(  # noqa: PLR0913 - one parameter for each question about a packet
    ctx: click.Context,
    /,
    *,
    netns: str | None,
    backend: str,
    uid: int,
    gid: int | None,
    proto: str,
    dst: Address,
    dport: int,
    src: Address | None,
    out_interface: str | None,
    in_interface: str | None,
    resolver: str,
    as_json: bool,
    **options: object,
) -> None:
    """Print the fate of one packet, the rule that decides it, and why. Sends nothing, needs no privilege."""
    with entered(netns):
        local = dst.is_loopback or dst in addresses()
        spec = _recorded_or_given(ctx, installed(backend), options)
    packet = Packet(
        protocol=Protocol(proto) if proto != "icmp" else Protocol.OTHER,
        destination=dst,
        destination_port=dport if proto != "icmp" else None,
        source=src,
        uid=None if in_interface else uid,
        gid=None if in_interface else _group(uid) if gid is None else gid,
        in_interface=in_interface or "",
        out_interface="" if in_interface else out_interface or ("lo" if local else ELSEWHERE),
        local=local or in_interface is not None,
    )
    alive = tuple(Family) if resolver == "up" else ()
    report.print_verdict(simulate(plan_rules(spec), packet, alive), as_json=as_json)


def _print_plan(backend: str, spec: CaptureSpec, form: str) -> None:
    chosen, reason = choose(backend)
    reader = READERS.get(form, chosen.name)
    if reader.partition("-")[0] != chosen.name.partition("-")[0]:
        chosen, reason = BACKENDS[reader](), f"reads --format {form}"
    if form != "json":
        click.echo(f"# backend {chosen.name}: {reason}")  # a comment to nft and iptables-restore
    report.print_plan(new_record(spec, chosen, _version(), None), form)


def _inspect(ctx: click.Context, backend: Backend, options: dict[str, object]) -> Installation:
    """Return what is installed, measured against the options given or else against its own record."""
    found = inspect(backend)
    if found.condition is Condition.ABSENT or not any_given(ctx, options):
        return found
    wanted = backend.visible(plan_rules(_spec(options)))
    drift = differences(wanted, found.held, backend.text)
    return Installation(found.held, found.record, compare(wanted, found.held), drift)


def _recorded_or_given(ctx: click.Context, backend: Backend, options: dict[str, object]) -> CaptureSpec:
    if any_given(ctx, options):
        return _spec(options)
    try:
        record = inspect(backend).record
    except PreflightError as error:
        click.echo(f"meshdns: going by options and defaults: {error}", err=True)
        return _spec(options)
    return record.spec if record else _spec(options)


def _spec(options: dict[str, object]) -> CaptureSpec:
    spec, warnings = to_spec(options)
    for warning in warnings:
        click.echo(f"meshdns: warning: {warning}", err=True)
    return spec


def _group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _version() -> str:
    return importlib.metadata.version("meshdns")
