"""Checks of `doctor`: ports, routes and interfaces of this network namespace. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshdns.capture.policy.spec import CaptureSpec, Family, Network, PoolRest, Ports
from meshdns.capture.policy.terms import LISTENER
from meshdns.capture.prove.diagnosis import Diagnosis, error, warning
from meshdns.capture.prove.facts import Facts

INIT = "systemd"
"""Opens sockets in the resolver's place, and hands them over (systemd.socket(5))."""


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
    """Whether addresses that leases come from are in use here."""
    for network, interface in facts.pool_routes:
        if spec.pool_rest is PoolRest.DIRECT and not _is_captured(network, spec):
            continue
        yield warning(
            f"{network} is routed by {interface}, and leased addresses hide what lives there",
            "remove that route; or lease from elsewhere: `--pool4` or `--pool6` of the resolver, and for capture the "
            f"same by `--outbound-cidr`, with `--pool-rest {PoolRest.DIRECT.value}`",
        )


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
        elif not facts.reachable.get(address, True):
            yield error(
                f"no route to nameserver {address}: no rule sees lookups that are sent there",
                "add a default route, or one to it",
            )
    for pool in spec.pools:
        wanted = Family.of(pool) in spec.families and _is_captured(pool, spec)
        if wanted and not facts.reachable.get(pool[1], True):
            yield error(
                f"no route to the pool {pool}: leased addresses cannot be connected to",
                f"add a default route, or `ip route add {pool} dev lo`",
            )


def lo_down(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether loopback is up."""
    if not facts.lo_up:
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
