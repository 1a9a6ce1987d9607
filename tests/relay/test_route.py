"""Where a connection goes, by the address and port that it was made to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relaying import POOLS, PROBE_PORT, routes

from meshdns.relay.address import Address
from meshdns.relay.route import (
    Backend,
    Decision,
    Destination,
    DnsName,
    Endpoint,
    Forward,
    PassThrough,
    Port,
    Probe,
    Refusal,
    Refuse,
    Route,
    Routes,
    UnixPath,
    parse_target,
)

HTTP = Port(80, "http", target=8080)
V4 = ip_address("198.51.100.2")


def to(*destinations: tuple[str, int]) -> Forward:
    return Forward("web.internal", tuple(Destination(parse_target(target), port) for target, port in destinations))


def refused(reason: Refusal, host: str = "web.internal") -> Refuse:
    return Refuse(host, reason)


NAMED = Endpoint(V4, ports={"http": 8888})
LEASED: Mapping[str, tuple[str, Sequence[Port | int], Sequence[Endpoint | str]]] = {
    "240.240.0.1": ("web.internal", [HTTP], ["198.51.100.2", "198.51.100.3"]),
    "240.240.0.2": ("web.internal", [HTTP, 443], [NAMED]),
    "240.240.0.3": ("web.internal", [HTTP], ["unix:///run/web.sock", "web.example"]),
    "240.240.0.4": ("web.internal", [HTTP], []),
    "2001:2::1": ("web.internal", [HTTP], ["2001:db8::2"]),
}


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        pytest.param("240.240.0.1", 80, to(("198.51.100.2", 8080), ("198.51.100.3", 8080)), id="targetPort"),
        pytest.param("240.240.0.2", 80, to(("198.51.100.2", 8888)), id="a port named by the endpoint beats targetPort"),
        pytest.param("240.240.0.2", 443, to(("198.51.100.2", 443)), id="neither: the port itself"),
        pytest.param("240.240.0.1", 81, to(("198.51.100.2", 81), ("198.51.100.3", 81)), id="undeclared: the same port"),
        pytest.param("240.240.0.3", 80, to(("unix:///run/web.sock", 8080), ("web.example", 8080)), id="other targets"),
        pytest.param("2001:2::1", 80, to(("2001:db8::2", 8080)), id="IPv6"),
        pytest.param("240.240.0.4", 80, refused(Refusal.NO_ENDPOINT), id="no endpoint"),
        pytest.param("240.240.0.9", 80, refused(Refusal.NO_LEASE, ""), id="no lease"),
        pytest.param("2001:2::9", 80, refused(Refusal.NO_LEASE, ""), id="no lease, IPv6"),
        pytest.param("240.240.255.255", 1, Probe(), id="probe"),
        pytest.param("2001:2::ffff", 1, Probe(), id="probe, same offset in pool6"),
        pytest.param("240.240.255.255", 2, refused(Refusal.NO_LEASE, ""), id="probe address, other port"),
        pytest.param("240.241.0.0", 1, PassThrough(Destination(ip_address("240.241.0.0"), 1)), id="after pool4"),
        pytest.param("240.239.255.255", 1, PassThrough(Destination(ip_address("240.239.255.255"), 1)), id="before"),
        pytest.param("2001:db8::2", 80, PassThrough(Destination(ip_address("2001:db8::2"), 80)), id="IPv6 outside"),
    ],
)
def test_decision(address: str, port: int, expected: Decision) -> None:
    """Each address and port has one decision, and the port at the endpoint is the most specific one that is given."""
    assert routes(LEASED).decide(ip_address(address), port) == expected


def test_undeclared_ports_are_refused_on_request() -> None:
    """With `refuse_undeclared_ports` only declared ports are forwarded."""
    strict = routes(LEASED, refuse_undeclared=True)
    assert strict.decide(IPv4Address("240.240.0.1"), 81) == refused(Refusal.UNDECLARED_PORT)
    assert strict.decide(IPv4Address("240.240.0.1"), 80) == to(("198.51.100.2", 8080), ("198.51.100.3", 8080))


def test_entries_of_one_host_serve_their_own_ports() -> None:
    """A port goes to the endpoints of the entries that declare it; an undeclared one to those of all, each once."""
    first = Backend((Port(80),), (Endpoint(V4), Endpoint(ip_address("198.51.100.3"))))
    second = Backend((Port(443), Port(80)), (Endpoint(V4, weight=5),))
    leases: dict[Address, Route] = {IPv4Address("240.240.0.1"): Route("web.internal", (first, second))}
    several = Routes(POOLS, leases, PROBE_PORT)

    def targets(port: int) -> list[str]:
        decision = several.decide(IPv4Address("240.240.0.1"), port)
        assert isinstance(decision, Forward)
        return [str(one) for one in decision.destinations]

    assert targets(443) == ["198.51.100.2:443"]
    assert targets(80) == ["198.51.100.2:80", "198.51.100.3:80"]
    assert targets(25) == ["198.51.100.2:25", "198.51.100.3:25"]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("198.51.100.2", V4),
        ("2001:db8::1", IPv6Address("2001:db8::1")),
        ("unix:///run/a.sock", UnixPath("/run/a.sock")),
        ("unix://@abstract", UnixPath("@abstract")),
        ("web.example", DnsName("web.example")),
        ("198.51.100", DnsName("198.51.100")),
    ],
)
def test_target(text: str, target: object) -> None:
    """An endpoint's address is an IP address, a Unix path or a name, and is written as it was read."""
    assert parse_target(text) == target
    assert str(parse_target(text)) == text


addresses = st.ip_addresses(v=4, network="240.240.0.0/15") | st.ip_addresses(v=6, network="2001:2::/47")
ports = st.integers(1, 65535)


@given(addresses, ports)
def test_nothing_in_a_pool_is_passed_through(address: Address, port: int) -> None:
    """A pool address is never connected to, and what is outside always is, as it is."""
    decision = routes(LEASED).decide(address, port)
    inside = any(address in pool for pool in (POOLS.v4, POOLS.v6) if pool.version == address.version)
    assert isinstance(decision, PassThrough) != inside
    if isinstance(decision, PassThrough):
        assert decision.destination == Destination(address, port)


@given(st.lists(st.tuples(ports, st.none() | ports), max_size=4), st.integers(0, 3), ports)
def test_a_forward_has_destinations(declared: list[tuple[int, int | None]], endpoints: int, port: int) -> None:
    """`Forward` holds one destination per endpoint and declaration, at least one; without endpoints it is refused."""
    backend = Backend(
        tuple(Port(number, f"p{index}", target) for index, (number, target) in enumerate(declared)),
        tuple(Endpoint(V4 + index) for index in range(endpoints)),
    )
    leases: dict[Address, Route] = {IPv4Address("240.240.0.1"): Route("h", (backend,))}
    loose = Routes(POOLS, leases, PROBE_PORT)
    decision = loose.decide(IPv4Address("240.240.0.1"), port)
    assert isinstance(decision, Forward) == (endpoints > 0)
    if isinstance(decision, Forward):
        targets = {target or number for number, target in declared if number == port} or {port}
        assert {(one.target, one.port) for one in decision.destinations} == {
            (V4 + index, target) for index in range(endpoints) for target in targets
        }
    strict = replace(loose, refuse_undeclared_ports=True).decide(IPv4Address("240.240.0.1"), port)
    assert strict == decision if port in {number for number, _ in declared} else isinstance(strict, Refuse)
