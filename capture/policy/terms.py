"""The terms in which the plan is written, the same for both directions: lookups, outbound traffic, special addresses.

What is asked of a packet, and in which order, is decided where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from meshdns.capture.policy.ruleset import LeaveAlone, Match, Protocol, Rule, among, among_networks, among_ports
from meshdns.capture.policy.spec import CaptureSpec, Family, Network, Ports
from meshdns.capture.values import replace

TCP: Final = (Protocol.TCP,)
UDP: Final = (Protocol.UDP,)
TCP_AND_UDP: Final = (Protocol.TCP, Protocol.UDP)
DNS: Final = Ports(53, 53)
LO: Final = among(["lo"])

LOOPBACK: Final[dict[Family, Network]] = {
    Family.IPV4: IPv4Network("127.0.0.0/8"),
    Family.IPV6: IPv6Network("::1/128"),
}
LISTENER: Final[dict[Family, Network]] = {Family.IPV4: IPv4Network("127.0.0.1/32"), Family.IPV6: LOOPBACK[Family.IPV6]}
"""Where a redirect on the way out ends, and so where the resolver's answers come from."""
PASS_THROUGH: Final[dict[Family, Network]] = {
    Family.IPV4: IPv4Network("127.0.0.6/32"),
    Family.IPV6: IPv6Network("::6/128"),
}
"""The source by which Istio's proxy marks connections that it has handled already."""
DIGIT: Final[dict[Family, str]] = {Family.IPV4: "4", Family.IPV6: "6"}


def lookups(spec: CaptureSpec, protocols: tuple[Protocol, ...]) -> Iterator[tuple[str, Match]]:
    """Yield port 53 of the captured servers: a match for each family, and for each interface a server is scoped to."""
    for family in spec.families:
        ours = [server for server in spec.dns_servers if Family.of(server.network) is family]
        for position, interface in enumerate(sorted({server.interface or "" for server in ours})):
            networks = [server.network for server in ours if (server.interface or "") == interface]
            match = replace(_to(family, networks, protocols), destination_ports=among_ports([DNS]))
            if interface:
                yield f"{DIGIT[family]}-scoped-{position}", replace(match, out_interface=among([interface]))
            else:
                yield DIGIT[family], match


def outbound(spec: CaptureSpec) -> Iterator[tuple[str, Match]]:
    """Yield the TCP that is captured on its way out: by port, then by destination, each family by itself."""
    for family in spec.families:
        if spec.outbound_ports:
            ports = among_ports(spec.outbound_ports)
            yield f"out-port-{DIGIT[family]}", Match(family=family, protocols=TCP, destination_ports=ports)
    for family, cidrs in by_family(spec, spec.outbound_cidrs):
        yield f"out-{DIGIT[family]}", _to(family, cidrs, TCP)


def _to(family: Family, networks: Iterable[Network], protocols: tuple[Protocol, ...]) -> Match:
    """Return the match for these destinations; a network of all addresses is no question at all."""
    destination = among_networks(networks)
    if any(network.prefixlen == 0 for network in destination.values):
        return Match(family=family, protocols=protocols)
    return Match(family=family, protocols=protocols, destination=destination)


def by_family(spec: CaptureSpec, networks: Iterable[Network]) -> Iterator[tuple[Family, list[Network]]]:
    """Yield each family of the spec with those of the networks that are its own, unless there are none."""
    found = list(networks)
    for family in spec.families:
        ours = [network for network in found if Family.of(network) is family]
        if ours:
            yield family, ours


def alone(rule_id: str, why: str, match: Match) -> Rule:
    """Return the rule that leaves what matches alone."""
    return Rule(rule_id, why, match, LeaveAlone())
