"""Checks of `doctor`: ports, routes and interfaces of this network namespace. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Packet
from meshdns.capture.policy.spec import CaptureSpec, Family, Network, PoolRest, Ports
from meshdns.capture.policy.terms import LISTENER
from meshdns.capture.prove.diagnosis import Diagnosis, error, warning
from meshdns.capture.prove.facts import Facts
from meshdns.capture.prove.leaving import ANOTHER_INTERFACE, Way, hindrance

INIT: Final = "systemd"
"""Opens sockets in the resolver's place, and hands them over (systemd.socket(5))."""
SOME_WAY: Final = Way(ANOTHER_INTERFACE, local=False)
"""Where nobody could look for one."""
NEW_INTERFACE: Final = "pool0"
EXAMPLE: Final = {Family.IPV4: "192.0.2.1/32", Family.IPV6: "2001:db8::1/128"}
"""Addresses that nobody has (RFC 5737, RFC 3849): without one of its family besides loopback nothing is connected."""


def port_taken(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether somebody else listens where captured packets go."""
    wanted = {
        ("udp", spec.dns_port): "resolver",
        ("tcp", spec.dns_port): "resolver",
        ("tcp", spec.outbound_port): "relay",
    }
    here = [one for one in facts.listeners if any(one.hears(to.network_address) for to in LISTENER.values())]
    # A listener for each address, but one finding.
    for protocol, port, uid in dict.fromkeys((one.protocol, one.port, one.uid) for one in here):
        ours = wanted.get((protocol, port))
        programs = facts.programs_at.get((protocol, port), ())
        if ours is None or uid in spec.proxy_uids or (uid == 0 and not programs):
            continue  # a socket that systemd opened and hands over belongs to root
        if uid == 0 and any(program.uid in spec.proxy_uids or program.name == INIT for program in programs):
            continue
        whose = ", ".join((f"uid {uid}", *map(str, programs)))
        yield error(
            f"{protocol} port {port}, the {ours}'s, belongs to {whose}",
            f"end that program, give another port, or add {uid} to --proxy-uid if it is the {ours}"
            if uid
            else "end that program, or give another port",
        )


def pool_route(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether addresses that leases come from are in use here, or leave by an interface where nothing is captured."""
    for network, interface in facts.pool_routes:
        if spec.pool_rest is PoolRest.DIRECT and not _is_captured(network, spec):
            continue
        yield warning(
            f"{network} is routed by {interface}, and leased addresses hide what lives there",
            "remove that route; or lease from elsewhere: `--pool4` or `--pool6` of the resolver, and for capture the "
            f"same by `--outbound-cidr`, with `--pool-rest {PoolRest.DIRECT.value}`",
        )
    for pool in spec.pools:
        if way := facts.ways.get(pool[1]):
            yield from _led_astray(pool, way, facts, spec)


def _led_astray(pool: Network, way: Way, facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    packet = Packet(
        protocol=Protocol.TCP,
        destination=pool[1],
        destination_port=1,
        out_interface=way.interface,
        local=way.local,
    )
    rule = hindrance(plan(spec), packet)
    if rule is None:
        return
    alone = f"what is sent there is left alone ({rule.id}): leased addresses cannot be connected to"
    if way.local:
        delete = f"ip route delete local {pool} dev {way.interface}"
        yield error(
            f"{pool[1]} of the pool {pool} counts as an address of this machine, and {alone}",
            f"remove it where an interface has it; else {_route_for(pool, facts, spec, delete)}",
        )
    else:
        yield error(f"the pool {pool} is routed by {way.interface}, and {alone}", _route_for(pool, facts, spec))


def _route_for(pool: Network, facts: Facts, spec: CaptureSpec, *before: str) -> str:
    """Return what gives the pool a route by which it is captured; nothing that is captured really leaves by it."""
    family = Family.of(pool)
    usable = sorted(facts.up - {"lo", *spec.exclude_interfaces})
    interface = usable[0] if usable else NEW_INTERFACE
    make = () if usable else (f"ip link add {interface} type dummy", f"ip link set {interface} up")
    source = () if family in facts.addressed else (f"ip address add {EXAMPLE[family]} dev {interface}",)
    commands = (*before, *make, *source, f"ip route replace {pool} dev {interface}")
    return f"`{'; '.join(commands)}`: any interface but lo will do, for what is captured does not leave by it"


def _is_captured(network: Network, spec: CaptureSpec) -> bool:
    """Return whether TCP to any address of a network is captured."""
    return any(network.network_address in cidr or cidr.network_address in network for cidr in spec.outbound_cidrs)


def no_address(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether `install` can choose an address family."""
    if not facts.known.has_family:
        yield error(
            "no address besides loopback, and no nameserver listed: `install` cannot choose an address family",
            "`ip address add` one, or give `--family`",
        )


def no_route(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether packets to nameservers and leased addresses come to be: what has no route is seen by no rule."""
    for server in spec.dns_servers:
        address = server.network.network_address
        if Family.of(address) not in spec.families:
            continue
        if server.interface and server.interface not in facts.interfaces:
            yield error(f"nameserver {server}: there is no interface {server.interface}", "name one that exists")
        elif facts.ways.get(address, SOME_WAY) is None:
            yield error(
                f"no route to nameserver {address}: no rule sees lookups that are sent there",
                "add a default route, or one to it",
            )
    for pool in spec.pools:
        wanted = Family.of(pool) in spec.families and _is_captured(pool, spec)
        if wanted and facts.ways.get(pool[1], SOME_WAY) is None:
            yield error(
                f"no route to the pool {pool}: leased addresses cannot be connected to",
                f"add a default route, or {_route_for(pool, facts, spec)}",
            )


def lo_down(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether loopback is up."""
    if "lo" not in facts.up:
        yield error("interface lo is down: nothing reaches the resolver", "`ip link set lo up`")


def ssh(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether inbound capture would lock the operator out."""
    for port in sorted(facts.ssh_ports):
        if _within(port, spec.inbound_ports) and not _within(port, spec.exclude_inbound_ports):
            yield error(
                f"--inbound-ports takes port {port}, where SSH comes in: you would be locked out",
                f"add `--exclude-inbound-ports {port}`, and install with `--commit-timeout`",
            )


def _within(port: int, ranges: tuple[Ports, ...]) -> bool:
    return any(some.first <= port <= some.last for some in ranges)
