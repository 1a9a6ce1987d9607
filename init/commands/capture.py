"""`meshdns capture`: the commands. Each enters the namespace, asks the library, prints, and gives an exit code."""

from __future__ import annotations

import contextlib
import pwd
import time
from collections.abc import Iterator

import click

from meshdns.capture.apply import commit
from meshdns.capture.apply.backend import BACKENDS, Backend, choose
from meshdns.capture.apply.choice import choose_working, installed, remove_elsewhere, uninstall_everywhere
from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import Installation, inspect, measure, new_record
from meshdns.capture.apply.install import install as apply_install
from meshdns.capture.apply.virtual import check_virtual
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.plan import plan as plan_rules
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Packet, simulate
from meshdns.capture.policy.spec import Address, CaptureSpec, Family
from meshdns.capture.system.namespace import addresses, entered, locked
from meshdns.capture.system.notes import dismiss_watch
from meshdns.init import capture_report as report
from meshdns.init import defaults
from meshdns.init.capture_options import (
    SETTINGS,
    any_given,
    care_options,
    istio_documents,
    place_options,
    spec_options,
    to_spec,
)
from meshdns.init.istio_options import found as found_of_istio
from meshdns.init.late import LateGroup
from meshdns.init.parameters import ADDRESS, GROUP, INTERFACE, PORT, USER
from meshdns.init.present import waiting
from meshdns.init.version import VERSION

DRIFT = 10
FORMATS = ("text", "json", "nft", "iptables")
READERS = {"nft": "nft", "iptables": "iptables-nft"}
"""Whose rules a plan for a program holds, unless a backend was asked for that reads it as well."""
ELSEWHERE = "(another)"
"""Stands for "any interface but lo": no interface can be called so."""

LATE = {
    "confirm": "meshdns.init.commands.capture_commit",
    "doctor": "meshdns.init.commands.capture_doctor",
    "revert": "meshdns.init.commands.capture_commit",
    "trace": "meshdns.init.commands.capture_trace",
    "verify": "meshdns.init.commands.capture_prove",
    "watch": "meshdns.init.commands.capture_watch",
}
"""Commands that stand elsewhere, so that `install` starts without them."""


@click.group(cls=LateGroup, late=LATE)
def capture() -> None:
    """Send port-53 traffic, and traffic to allocated addresses, to the local resolver and relay.

    \b
    Example:
      meshdns capture install --wait-ready 30
      meshdns capture status
    """
    SETTINGS.check_environment()


@capture.command()
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="What to print.")
@care_options
@spec_options
@place_options
@istio_documents
def plan(form: str, netns: str | None, backend: str, **options: object) -> None:
    """Print what `install` would do. Changes nothing, reads no rules, needs no privilege.

    \b
    Example:
      meshdns capture plan --proxy-uid meshdns
      meshdns capture plan --format nft
    """
    with entered(netns):
        _print_plan(backend, _spec(options), form)


@capture.command()
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@care_options
@spec_options
@place_options
@istio_documents
def install(
    *,
    netns: str | None,
    backend: str,
    dry_run: bool,
    wait_ready: float | None,
    commit_timeout: float | None,
    **options: object,
) -> None:
    """Put the rules in place of whatever was installed before, in one transaction. Safe to run again.

    \b
    Example:
      meshdns capture install --wait-ready 30
      meshdns capture install --proxy-uid meshdns --proxy-gid meshdns --commit-timeout 60
    """
    with entered(netns):
        spec = _spec(options)
        if dry_run:
            _print_plan(backend, spec, "text")
            return
        if wait_ready:
            _wait_ready(spec, wait_ready)
        check_virtual(spec)
        with locked(), _committing(commit_timeout) as trial:
            choice = choose_working(backend, plan_rules(spec))
            record = new_record(spec, choice.backend, VERSION, int(time.time()))
            changed = apply_install(choice.backend, record, choice.held)
            replaced = remove_elsewhere(choice.backend)
            if not (changed or replaced):
                trial.close()
    families = " and ".join(family.value for family in spec.families)
    click.echo(f"backend {choice.backend.name}: {choice.reason}")
    click.echo(f"installed for {families}" if changed else "nothing to change: it is installed already")
    if not spec.dns:
        click.echo(_no_dns())
    for name in replaced:
        click.echo(f"removed what was installed with {name}")
    if commit_timeout and changed:
        click.echo(f"what was before comes back in {commit_timeout:g} s, unless you run `meshdns capture confirm`")


@capture.command()
@place_options
def uninstall(netns: str | None, backend: str) -> None:
    """Remove everything of meshdns, whatever configuration made it. Safe to run again.

    \b
    Example:
      meshdns capture uninstall
    """
    with entered(netns), locked():
        dismiss_watch()
        commit.disarm()
        removed = uninstall_everywhere(backend)
        _remove_trace()
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
    """Print what is installed, by which version, since when, packets per rule, heartbeat and drift.

    \b
    Example:
      meshdns capture status --check
    """
    with entered(netns):
        found = _inspect(ctx, installed(backend), options)
        confirm_within_s = commit.seconds_left()
    if as_json:
        click.echo(report.status_json(found, confirm_within_s))
    else:
        report.print_status(found, confirm_within_s)
    return DRIFT if check and found.condition is not Condition.SAME else 0


@capture.command()
@spec_options
@place_options
@click.pass_context
def diff(ctx: click.Context, /, netns: str | None, backend: str, **options: object) -> int:
    """Print expected rules (-) against live ones (+), in order; exits with 10 when they differ.

    \b
    Example:
      meshdns capture diff
    """
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
    """Print the fate of one packet, the rule that decides it, and why. Sends nothing, needs no privilege.

    \b
    Example:
      meshdns capture explain --uid 1000 --proto udp --dst 10.96.0.10 --dport 53
    """
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


def _remove_trace() -> None:
    """Remove what a killed `trace` has left."""
    from meshdns.capture.prove import trace  # noqa: PLC0415 - see LATE

    with contextlib.suppress(PreflightError):  # no nft here, so no trace either
        trace.remove()


def _wait_ready(spec: CaptureSpec, wait_s: float) -> None:
    from meshdns.capture.prove.ready import wait_ready  # noqa: PLC0415 - nobody else pays for its import

    with waiting(f"waiting up to {wait_s:g} s for the resolver on port {spec.dns_port}"):
        wait_ready(spec, defaults.PROBE_SUFFIX, wait_s)


@contextlib.contextmanager
def _committing(timeout_s: float | None) -> Iterator[contextlib.ExitStack]:
    """Arrange for what is installed now to come back, unless the block gives that up by closing what it is given.

    Without a timeout, what the block installs is meant to stay, and nothing that waited before comes back.
    """
    with contextlib.ExitStack() as given_up:
        if timeout_s is None:
            yield given_up
            commit.disarm()
            return
        from meshdns.init.commands.capture_commit import start_waiting  # noqa: PLC0415 - see LATE

        given_up.callback(commit.arm(timeout_s, start_waiting))
        yield given_up
        given_up.pop_all()


def _print_plan(backend: str, spec: CaptureSpec, form: str) -> None:
    chosen, reason = choose(backend)
    reader = READERS.get(form, chosen.name)
    if reader.partition("-")[0] != chosen.name.partition("-")[0]:
        chosen, reason = BACKENDS[reader](), f"reads --format {form}"
    if form != "json":
        click.echo(f"# backend {chosen.name}: {reason}")  # a comment to nft and iptables-restore
        if not spec.dns:
            click.echo(f"# {_no_dns()}")
    report.print_plan(new_record(spec, chosen, VERSION, None), form)


def _no_dns() -> str:
    ctx = click.get_current_context()
    read = found_of_istio(ctx)
    said = read.settings.get("dns") if read else None
    by_istio = said and not said.value and ctx.get_parameter_source("dns") is click.core.ParameterSource.DEFAULT_MAP
    return f"no DNS rules: {said.source} is false" if said and by_istio else "no DNS rules: --no-dns"


def _inspect(ctx: click.Context, backend: Backend, options: dict[str, object]) -> Installation:
    """Return what is installed, measured against the options given or else against its own record."""
    found = inspect(backend)
    if found.condition is Condition.ABSENT or not any_given(ctx, options):
        return found
    return measure(backend, _spec(options), found.held)


def _recorded_or_given(ctx: click.Context, backend: Backend, options: dict[str, object]) -> CaptureSpec:
    if any_given(ctx, options):
        return _spec(options)
    try:
        record = inspect(backend).record
    except PreflightError as error:
        click.echo(f"meshdns: going by options and defaults: {error}", err=True)
        return _spec(options)
    if record is None:
        click.echo("meshdns: nothing is installed: going by options and defaults", err=True)
        return _spec(options)
    return record.spec


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
