"""`meshdns capture status`, `diff` and `explain`: what is there, and what it does to a packet."""

from __future__ import annotations

import pwd
from ipaddress import IPv4Address, IPv6Address

import click

from meshdns.capture.apply import commit
from meshdns.capture.apply.backend import Backend
from meshdns.capture.apply.choice import installed, with_others
from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import Installation, inspect, measure
from meshdns.capture.errors import PreflightError, SpecError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Packet, simulate
from meshdns.capture.policy.spec import Address, CaptureSpec, Family, as_sent
from meshdns.capture.policy.terms import DNS
from meshdns.capture.system import scope
from meshdns.capture.system.namespace import addresses, entered
from meshdns.init import capture_report as report
from meshdns.init.capture_options import ZONED_ADDRESS, any_given, place_options, recorded_options
from meshdns.init.capture_spec import interface_of, warned_spec
from meshdns.init.parameters import ADDRESS, GROUP, INTERFACE, PORT, USER
from meshdns.init.version import VERSION

DRIFT = 10
ELSEWHERE = "(another)"
"""Stands for "any interface but lo": no interface can be called so."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", is_flag=True, help="Exit with 10 when the rules are not as they should be.")
@recorded_options
@place_options
@click.pass_context
def status(
    ctx: click.Context, /, *, netns: str | None, backend: str, as_json: bool, check: bool, **options: object
) -> int:
    """Print what is installed, by which version, since when, packets per rule, heartbeat and drift.

    Options of `install` may be given too, and then stand in the place of what was recorded.

    \b
    Example:
      meshdns capture status --check
    """
    with entered(netns):
        found = _inspect(ctx, installed(backend), options)
        trial = commit.seconds_left(), commit.abandoned()
    if as_json:
        click.echo(report.status_json(found, *trial))
    else:
        report.print_status(found, *trial)
    return DRIFT if check and found.condition is not Condition.SAME else 0


@click.command()
@recorded_options
@place_options
@click.pass_context
def diff(ctx: click.Context, /, netns: str | None, backend: str, **options: object) -> int:
    """Print expected rules (-) against live ones (+), in order; exits with 10 when they differ.

    Options of `install` may be given too, and then stand in the place of what was recorded.

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


@click.command()
@click.option("--uid", type=USER, required=True, help="Who sends.")
@click.option("--gid", type=GROUP, help="Default: the user's group, else the same number.")
@click.option("--proto", type=click.Choice(["tcp", "udp", "icmp"]), required=True, help="Over what.")
@click.option("--dst", type=ZONED_ADDRESS, required=True, help="Where to, and by which interface.")
@click.option("--dport", type=PORT, required=True, help="To which port.")
@click.option("--src", type=ADDRESS, help="Where from.")
@click.option("--out-interface", type=INTERFACE, help="Default: lo for an address of this machine, else any other.")
@click.option("--in-interface", type=INTERFACE, help="The packet comes from outside, by this interface.")
@click.option("--resolver", type=click.Choice(["up", "down"]), default="up", show_default=True, help="Its state.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@recorded_options
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
    dst: tuple[Address, str | None],
    dport: int,
    src: Address | None,
    out_interface: str | None,
    in_interface: str | None,
    resolver: str,
    as_json: bool,
    **options: object,
) -> None:
    """Print the fate of one packet, the rule that decides it, and why. Sends nothing, needs no privilege.

    Options of `install` may be given too, and then stand in the place of what was recorded.

    \b
    Example:
      meshdns capture explain --uid 1000 --proto udp --dst 10.96.0.10 --dport 53
    """
    named, zone = dst
    destination = _sent_to(named, src)
    with entered(netns):
        interface = _by_one_way(interface_of(zone), out_interface, in_interface)
        local = _is_local(destination, interface)
        spec = _recorded_or_given(ctx, installed(backend), options)
    packet = Packet(
        protocol=Protocol(proto) if proto != "icmp" else Protocol.OTHER,
        destination=destination,
        destination_port=dport if proto != "icmp" else None,
        source=src,
        uid=None if in_interface else uid,
        gid=None if in_interface else _group(uid) if gid is None else gid,
        in_interface=in_interface or "",
        out_interface="" if in_interface else out_interface or ("lo" if local else interface or ELSEWHERE),
        local=local or in_interface is not None,
    )
    rules = plan(spec)
    verdict = simulate(rules, packet, tuple(Family) if resolver == "up" else ())
    report.print_verdict(verdict, as_json=as_json)
    by_default = ctx.get_parameter_source("resolver") is click.core.ParameterSource.DEFAULT
    if by_default and not as_json and verdict != simulate(rules, packet, ()):
        click.echo("assumed: the resolver is up (`meshdns capture status` tells)")
    if destination != named and not as_json:
        click.echo(f"packets to that address go to {destination}")
    if packet.out_interface == ELSEWHERE and _is_on_a_link(destination) and not as_json:
        click.echo(f"assumed: an interface that no rule names; its sender must name one: {destination}%eth0")
    if verdict.rule is None and verdict.passed_by is None and dport == DNS.first and not as_json:
        click.echo(f"captured nameservers: {', '.join(map(str, spec.dns_servers)) or 'none'}")


def _sent_to(destination: Address, source: Address | None) -> Address:
    """Return where the kernel sends it; with IPv4 a source that was chosen is what 0.0.0.0 means as a destination."""
    sent = as_sent(destination)
    mapped = destination.ipv4_mapped if isinstance(destination, IPv6Address) else None
    is_zero = (mapped or destination).is_unspecified and isinstance(sent, IPv4Address)
    return source if is_zero and isinstance(source, IPv4Address) else sent


def _by_one_way(zone: str | None, out_interface: str | None, in_interface: str | None) -> str | None:
    """Return the interface that the destination names; SpecError where an option names another."""
    for option, given in (("--out-interface", out_interface), ("--in-interface", in_interface)):
        if zone and given not in {None, zone}:
            raise SpecError(f"cannot use {option} {given}: --dst is on {zone}: leave one of them out")
    return zone


def _is_local(address: Address, zone: str | None) -> bool:
    """Return whether it is this machine's; the same link-local address may be somebody else's on another link."""
    if zone and _is_on_a_link(address):
        return zone in scope.holders(address)
    return address.is_loopback or address in addresses()


def _is_on_a_link(address: Address) -> bool:
    return isinstance(address, IPv6Address) and address.is_link_local


def _inspect(ctx: click.Context, backend: Backend, options: dict[str, object]) -> Installation:
    """Return what is installed, measured against the options given or else against its own record."""
    found = inspect(backend)
    if found.condition is not Condition.ABSENT and any_given(ctx, options):
        found = measure(backend, warned_spec(options), found.held)
    return with_others(found, backend)


def _recorded_or_given(ctx: click.Context, backend: Backend, options: dict[str, object]) -> CaptureSpec:
    if any_given(ctx, options):
        return warned_spec(options)
    try:
        found = with_others(inspect(backend), backend)
    except PreflightError as error:
        click.echo(f"meshdns: going by options and defaults: {error}", err=True)
        return warned_spec(options)
    for line in found.beside:
        click.echo(f"meshdns: {line}", err=True)
    if found.record is None:
        why = found.drift[0] if found.held.present else "nothing is installed"
        click.echo(f"meshdns: {why}: going by options and defaults", err=True)
        return warned_spec(options)
    if found.planned_by:
        click.echo(
            f"meshdns: the rules were planned by meshdns {found.planned_by}: going by those of {VERSION}", err=True
        )
    return found.record.spec


def _group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid
