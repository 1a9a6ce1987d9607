"""The dead-man's switch: names resolve without us soon after the resolver's end, and with us again when it is back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import pytest
from capturing import APP, LISTED, PROXY, TRIED, Probe, World, spec, world
from proving import capture

from meshdns.capture.apply.install import new_record
from meshdns.capture.apply.record import to_comments
from meshdns.capture.dialects.observed import NOTHING
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Fate
from meshdns.capture.policy.spec import Family, OnResolverDown

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the proxy's own user")

RESOLVER = Path(__file__).parents[1] / "beating_resolver.py"
TIMEOUT_S = 1.0
GRACE_S = 0.5
SPEC = spec(heartbeat_timeout_s=TIMEOUT_S)
LOOKUP = Probe("lookup", LISTED[0], 53, Protocol.UDP, APP)
LOOKUPS = [
    Probe(f"{protocol.value} {address}", address, 53, protocol, APP)
    for protocol in (Protocol.UDP, Protocol.TCP)
    for address in LISTED
]


@pytest.fixture
def there() -> Iterator[World]:
    with world(resolver=False) as made:
        yield made


@contextlib.contextmanager
def _resolver(there: World, uid: int = PROXY) -> Iterator[Popen[bytes]]:
    with there.pod.running(sys.executable, str(RESOLVER), str(uid)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        _wait_for(there, frozenset(Family) if uid == PROXY else frozenset())
        yield process


def _wait_for(there: World, alive: frozenset[Family]) -> None:
    deadline = time.monotonic() + 5
    while there.held().alive != alive:
        assert time.monotonic() < deadline, f"alive: {there.held().alive}"
        time.sleep(0.02)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_no_lookup_fails_that_is_sent_after_the_timeout(there: World, end: signal.Signals) -> None:
    """Killed or stopped: from the timeout plus 0.5 s on, every lookup is answered by the nameserver it was sent to."""
    there.install(SPEC)
    with _resolver(there) as process:
        process.send_signal(end)
        ended = time.monotonic()
        late, sockets = [], []
        with contextlib.ExitStack() as stack:
            while (now := time.monotonic()) < ended + TIMEOUT_S + GRACE_S + 1:
                client = stack.enter_context(there.pod.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=APP))
                client.sendto(b"who?", (LISTED[0], 53))
                sockets.append((now - ended, client))
                time.sleep(0.05)
            for sent_after_s, client in sockets:
                if sent_after_s > TIMEOUT_S + GRACE_S:
                    late.append(client.recv(64))
        assert len(late) > 10
        assert set(late) == {b"direct"}


def test_capture_is_back_when_the_resolver_is(there: World) -> None:
    """After SIGCONT lookups are captured again, also those of a socket that has been open all the time."""
    there.install(SPEC)
    with there.pod.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=APP) as client, _resolver(there) as process:
        assert _ask(client) == b"resolver"
        process.send_signal(signal.SIGSTOP)
        _wait_for(there, frozenset())
        assert _ask(client) == b"direct"
        process.send_signal(signal.SIGCONT)
        _wait_for(there, frozenset(Family))
        assert _ask(client) == b"resolver"


def _ask(client: socket.socket) -> bytes:
    client.sendto(b"who?", (LISTED[0], 53))
    return client.recv(64)


def test_before_the_first_heartbeat_nothing_is_captured(there: World) -> None:
    """Installed before the resolver has ever run, the rules are in nobody's way."""
    there.install(SPEC)
    assert [there.send(probe) for probe in LOOKUPS] == [(Fate.DIRECT, None)] * len(LOOKUPS)


def test_closed_refuses_before_the_first_heartbeat(there: World) -> None:
    """With `closed` captured lookups fail at once, by UDP and TCP, while there is no resolver."""
    there.install(spec(on_resolver_down=OnResolverDown.CLOSED))
    started = time.monotonic()
    assert [there.send(probe) for probe in LOOKUPS] == [(Fate.REJECT, None)] * len(LOOKUPS)
    assert time.monotonic() - started < 1  # no packet was silently lost: each of those costs its timeout


def test_only_the_proxys_user_keeps_it_alive(there: World) -> None:
    """The same datagrams from anybody else, root included, open nothing, whatever mark they bear."""
    there.install(SPEC)
    for uid in (0, APP):
        for mark in (0, SPEC.heartbeat_mark):
            there.beat(uid, mark)
    assert there.held().alive == frozenset()
    assert there.send(LOOKUP) == (Fate.DIRECT, None)
    there.beat(PROXY, 77)
    assert there.held().alive == frozenset(Family)


@pytest.mark.parametrize("backend", TRIED)
def test_nobody_else_keeps_a_dead_resolvers_switch_open(backend: str) -> None:
    """Root marks its datagrams as heartbeats, to the DNS port and to a captured server, and the switch shuts."""
    with world(backend=backend) as there:
        there.install(SPEC)
        there.beat()
        forged = [
            Probe("forged", address, port, Protocol.UDP, 0, 0, SPEC.heartbeat_mark)
            for pair, port in ((("127.0.0.1", "::1"), SPEC.dns_port), (LISTED, 53))
            for address in pair
        ]
        deadline = time.monotonic() + 15
        while {there.send(probe) for probe in LOOKUPS} != {(Fate.DIRECT, None)}:
            assert time.monotonic() < deadline
            for probe in forged:
                there.send_empty(probe)


@pytest.mark.parametrize("backend", TRIED)
def test_rules_that_take_marks_away_replace_rules_that_do_not(backend: str) -> None:
    """Over an upgrade from rules without them, what is alive stays alive."""
    with world(backend=backend) as there:
        lasting = spec()
        rules = plan(lasting)
        chains = tuple(
            replace(chain, rules=tuple(rule for rule in chain.rules if not rule.id.startswith("beat-unmark")))
            for chain in rules.chains
        )
        assert sum(len(chain.rules) for chain in chains) == sum(1 for _ in rules.rules()) - 4
        older = replace(rules, chains=chains)
        record = replace(new_record(lasting, there.backend, "0", 0), fingerprint=older.fingerprint())
        about = to_comments(record, there.backend.comment_length)
        there.pod.call(lambda: there.backend.replace(older, about, NOTHING, 0))
        there.beat()
        assert there.install(lasting)
        assert there.held().alive == frozenset(Family)
        assert [there.send(probe) for probe in LOOKUPS] == [(Fate.REDIRECT, SPEC.dns_port)] * len(LOOKUPS)


def test_a_firewall_that_closes_the_way_in_closes_the_switch(there: World) -> None:
    """A heartbeat counts only when it got through every filter: a resolver that cannot be reached is out of the way."""
    there.install(SPEC)
    with _resolver(there):
        closed = "table inet f { chain i { type filter hook input priority 10; iifname lo udp dport 15053 drop\n }\n }"
        there.pod.run("nft", "-f", "-", stdin=closed)
        _wait_for(there, frozenset())
        assert there.send(LOOKUP) == (Fate.DIRECT, None)


def test_each_family_has_a_switch_of_its_own(there: World) -> None:
    """A heartbeat over IPv6 alone captures IPv6 lookups and leaves IPv4 alone."""
    there.install(SPEC)
    with there.pod.socket(socket.AF_INET6, socket.SOCK_DGRAM, uid=PROXY) as sender:
        sender.sendto(b"", ("::1", 15053))
    assert there.held().alive == {Family.IPV6}
    assert there.send(LOOKUP) == (Fate.DIRECT, None)


def test_a_flow_from_before_is_captured_and_released(there: World) -> None:
    """A UDP socket in use since before install meets the resolver with its next packet, and is free after uninstall."""
    with there.pod.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=APP) as client:
        assert _ask(client) == b"direct"
        there.install(SPEC)
        with _resolver(there):
            assert _ask(client) == b"resolver"
            there.uninstall()
            assert _ask(client) == b"direct"


def test_a_resolver_of_another_user_captures_nothing(there: World) -> None:
    """A resolver that runs as the wrong user beats in vain: its lookups would be captured again and again."""
    there.install(SPEC)
    with _resolver(there, uid=APP):
        time.sleep(0.7)
        assert there.send(LOOKUP) == (Fate.DIRECT, None)


@pytest.mark.parametrize("backend", TRIED)
def test_every_closing_since_the_installation_is_counted(backend: str) -> None:
    """`status` counts what closed, whether the switch was shut when the rules came or stayed open meanwhile."""
    with world(resolver=False, backend=backend) as there:
        there.install(SPEC)
        with _resolver(there) as process:
            assert _closings(there) == [0, 0]
            there.install(spec(heartbeat_timeout_s=TIMEOUT_S, exclude_uids=(9,)))
            assert _closings(there) == [0, 0]
            for times in (1, 2):
                process.send_signal(signal.SIGSTOP)
                _wait_until_direct(there)
                assert _closings(there) == [times, times]
                process.send_signal(signal.SIGCONT)
                _wait_for(there, frozenset(Family))
                assert _closings(there) == [times, times]
            process.send_signal(signal.SIGSTOP)
            _wait_until_direct(there)
            there.install(SPEC)
            assert _closings(there) == [0, 0]
            process.send_signal(signal.SIGCONT)
            _wait_for(there, frozenset(Family))
            assert _closings(there) == [0, 0]


def test_a_switch_that_two_dialects_share_is_counted_from_open() -> None:
    """Both variants of iptables look at one list of heartbeats, so the second begins with what the first has opened."""
    options = ("--dns-servers", ",".join(LISTED), "--heartbeat-timeout", str(TIMEOUT_S))
    with world(resolver=False, backend="iptables-legacy") as there:
        capture(there.pod, "install", *options, "--backend", "iptables-legacy")
        with _resolver(there) as process:
            capture(there.pod, "install", *options, "--backend", "iptables-nft")
            assert _closings(there) == [0, 0]
            process.send_signal(signal.SIGSTOP)
            assert _eventually(lambda: _closings(there) == [1, 1])


def _wait_until_direct(there: World) -> None:
    """Wait until the kernel itself takes the switch for shut: of a list of heartbeats we know the time less well."""
    assert _eventually(lambda: {there.send(probe) for probe in LOOKUPS} == {(Fate.DIRECT, None)})


def _closings(there: World) -> list[int]:
    told = json.loads(capture(there.pod, "status", "--json").stdout)["heartbeat"]
    return [told[family.value]["closed"] for family in Family]


def _eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False
