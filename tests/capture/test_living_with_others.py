"""Other tools' rules in the same kernel: ours work beside them, and theirs beside ours."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from capturing import APP, LISTED, OUTSIDE, PROXY, SPEC, Probe, World, servers, spec, world

from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import inspect
from meshdns.capture.dialects.nft.backend import NftBackend
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import LeaveAlone, Protocol
from meshdns.capture.policy.simulate import Fate

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

LOOKUPS = [
    Probe(f"{protocol.value} {address}", address, 53, protocol, APP)
    for protocol in (Protocol.UDP, Protocol.TCP)
    for address in LISTED
]
CAPTURED = [(Fate.REDIRECT, 15053)] * len(LOOKUPS)

OTHER_NAT = """
table inet other {
    chain output {
        type nat hook output priority -100; policy accept;
        meta l4proto { tcp, udp } th dport 53 redirect to :15006
        ip daddr 198.51.100.0/24 tcp dport 81 redirect to :80
    }
}
"""
STATEFUL_FIREWALL = """
table inet firewall {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname "lo" ct state new accept
        meta l4proto ipv6-icmp accept
    }
}
"""


@pytest.fixture
def there() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_our_lookups_win_over_other_nat_rules_in_either_order(there: World, first: str) -> None:
    """Docker and its like redirect port 53 too; a captured lookup is ours, whichever rules were loaded first."""
    if first == "theirs":
        there.pod.run("nft", "-f", "-", stdin=OTHER_NAT)
    there.install(SPEC)
    if first == "ours":
        there.pod.run("nft", "-f", "-", stdin=OTHER_NAT)
    there.beat()
    assert [there.send(probe) for probe in LOOKUPS] == CAPTURED


def test_what_we_leave_alone_other_nat_rules_still_see(there: World) -> None:
    """An exclusion ends our own chain and nobody else's: the excluded interface's other NAT works."""
    there.pod.run("nft", "-f", "-", stdin=OTHER_NAT)
    there.install(spec(exclude_interfaces=("eth0",)))
    there.beat()
    probe = Probe("redirected by others", OUTSIDE[0], 81, Protocol.TCP, APP)
    with there.pod.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 80))
        listener.listen()
        with there.pod.socket(socket.AF_INET, socket.SOCK_STREAM, uid=APP) as client:
            client.connect((probe.destination, 81))
            accepted, _ = listener.accept()
            accepted.close()


def test_a_zone_on_what_is_left_alone_would_be_noticed(there: World) -> None:
    """With a stateful firewall, an excluded group that were put into the zone would lose its answers."""
    wanted = spec(exclude_owner_groups=(5000,))
    rules = plan(wanted)
    mistaken = replace(
        rules,
        chains=tuple(
            replace(chain, rules=tuple(rule for rule in chain.rules if not isinstance(rule.action, LeaveAlone)))
            if chain.name == "zone"
            else chain
            for chain in rules.chains
        ),
    )
    excluded = Probe("excluded", LISTED[0], 53, Protocol.UDP, APP, 5000)
    there.pod.run("nft", "-f", "-", stdin=STATEFUL_FIREWALL)
    there.install(wanted)
    there.beat()
    assert there.send(excluded) == (Fate.DIRECT, None)
    held = there.held()
    there.pod.call(lambda: NftBackend().replace(mistaken, (), held, 1.0))
    assert there.send(excluded) == (Fate.DROP, None)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize("bound", [True, False])
def test_a_server_on_one_link_is_captured_on_that_link(kind: socket.SocketKind, *, bound: bool) -> None:
    """`nameserver fe80::1%eth0`: lookups by eth0 are captured, of sockets bound to it by connect(2) too."""
    with world(resolver=False) as there:
        there.pod.run("ip", "address", "add", "fe80::2/64", "dev", "eth0", "nodad")
        index = there.pod.call(lambda: socket.if_nametoindex("eth0"))
        routes = there.pod.run("ip", "-6", "route", "show", "table", "all").stdout
        there.install(spec(dns_servers=servers("fe80::1%eth0", "fe80::1%eth9")))
        there.beat()
        with (
            there.pod.socket(socket.AF_INET6, kind, uid=PROXY) as resolver,
            there.pod.socket(socket.AF_INET6, kind, uid=APP) as client,
        ):
            resolver.bind(("::1", 15053))
            if kind == socket.SOCK_STREAM:
                resolver.listen()
                client.connect(("fe80::1", 53, 0, index))
                resolver.accept()[0].close()
            elif bound:
                client.connect(("fe80::1", 53, 0, index))
                client.send(b"who?")
                _answer_link_local(resolver)
                assert client.recv(64) == b"resolver"
            else:
                client.sendto(b"who?", ("fe80::1", 53, 0, index))
                _answer_link_local(resolver)
                assert client.recv(64) == b"resolver"
        there.uninstall()
        assert there.pod.run("ip", "-6", "route", "show", "table", "all").stdout == routes


def _answer_link_local(resolver: socket.socket) -> None:
    """Answer without the scope that the question came with: that is lo, and no link-local address lives there."""
    packet, client = resolver.recvfrom(64)
    assert packet == b"who?"
    resolver.sendto(b"resolver", (client[0], client[1], 0, 0))


def test_a_missing_route_home_is_drift_and_mended(there: World) -> None:
    """The kernel drops the route with the link; `status` tells, and install puts it back."""
    wanted = spec(dns_servers=servers("fe80::1%eth0"))
    assert there.install(wanted)
    assert not there.install(wanted)
    there.pod.run("ip", "-6", "route", "delete", "local", "::1", "dev", "eth0", "table", "local")
    found = there.pod.call(lambda: inspect(NftBackend()))
    assert (found.condition, found.drift) == (Condition.STALE, ("- route to ::1 by way of eth0",))
    assert there.install(wanted)
    assert there.pod.call(lambda: inspect(NftBackend())).condition is Condition.SAME
    there.install(SPEC)
    assert "::1 dev eth0" not in there.pod.run("ip", "-6", "route", "show", "table", "local").stdout


def test_the_proxy_and_the_app_may_use_one_port_number(there: World) -> None:
    """A lookup of the proxy's own does not make the app's lookup from the same source port slip past, or vice versa."""
    there.install(SPEC)
    there.beat()
    answers = []
    for turn in range(6):
        with there.pod.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=(APP, 1337)[turn % 2]) as client:
            client.bind(("0.0.0.0", 30053))
            client.sendto(b"who?", (LISTED[0], 53))
            answers.append(client.recv(64))
    assert answers == [b"15053", b"direct"] * 3
