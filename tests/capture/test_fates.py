"""Every packet's fate in a kernel is the one that the simulator tells, for every named configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import pytest
from _pytest.mark import ParameterSet
from capture_cases import CASES, needing_ids
from capture_strategies import SPECS
from capturing import APP, LEASED, LINKED, LISTED, OUTSIDE, POD, PROXY, SPEC, STUB, TRIED, UNLISTED, Probe, World, world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshdns.capture.policy.plan import EMPTY_DATAGRAM_BYTES, plan
from meshdns.capture.policy.ruleset import Beat, Protocol, RuleSet
from meshdns.capture.policy.simulate import simulate
from meshdns.capture.policy.spec import CaptureSpec, Family

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: other users' packets")

SENDERS = {
    "app": (APP, APP),
    "app-in-group": (APP, 5000),
    "other-user": (5000, APP),
    "proxy-uid": (PROXY, APP),
    "second-proxy-uid": (1338, APP),
    "proxy-gid": (APP, PROXY),
}
PLACES = {
    "listed:53": (LISTED, 53),
    "unlisted:53": (UNLISTED, 53),
    "stub:53": (STUB, 53),
    "own:53": (POD, 53),
    "own:80": (POD, 80),
    "own:15008": (POD, 15008),
    "stub:80": (STUB, 80),
    "outside:80": (OUTSIDE, 80),
    "leased:80": (LEASED, 80),
}
LISTENERS = ("127.0.0.1", "::1")
PROBES = [
    Probe(f"{sender}, {protocol.value} over {family.value}, {place}", pair[number], port, protocol, uid, gid)
    for sender, (uid, gid) in SENDERS.items()
    for place, (pair, port) in PLACES.items()
    for protocol in (Protocol.UDP, Protocol.TCP)
    for number, family in enumerate(Family)
]
PROBES += [
    Probe(f"{sender}, {protocol.value} to {LINKED}, port {port}", LINKED, port, protocol, uid, gid)
    for sender, (uid, gid) in SENDERS.items()
    for protocol in (Protocol.UDP, Protocol.TCP)
    for port in (53, 80)
]
PROBES += [
    Probe(f"marked 77, {protocol.value}, {place}", pair[0], port, protocol, mark=77)
    for place, (pair, port) in {"listed:53": (LISTED, 53), "outside:80": (OUTSIDE, 80), "own:80": (POD, 80)}.items()
    for protocol in (Protocol.UDP, Protocol.TCP)
]
PROBES += [
    Probe(f"pass-through to {place}", pair[0], port, Protocol.TCP, source="127.0.0.6")
    for place, (pair, port) in {"stub:53": (STUB, 53), "stub:80": (STUB, 80)}.items()
]
PROBES += [
    Probe(f"{sender}, ping to {place}", address, None, Protocol.OTHER, uid, gid)
    for sender, (uid, gid) in SENDERS.items()
    for place, pair in {"leased": LEASED, "outside": OUTSIDE}.items()
    for address in pair
]
PROBES += [
    Probe(f"from outside to own:{port} {address}", address, port, Protocol.TCP, inbound=True)
    for address in POD
    for port in (22, 80, 8080, 15008)
]

MARKS = (0, 77, SPEC.heartbeat_mark)
TARGETS = {
    "the DNS port": (LISTENERS, SPEC.dns_port),
    "the DNS port of the own address": (POD, SPEC.dns_port),
    "another port": (LISTENERS, 15001),
    "listed:53": (LISTED, 53),
    "unlisted:53": (UNLISTED, 53),
    "stub:53": (STUB, 53),
}
EMPTY_DATAGRAMS = [
    Probe(f"empty from {sender}, marked {mark}, to {target} {address}", address, port, Protocol.UDP, uid, gid, mark)
    for sender, (uid, gid) in {**SENDERS, "root": (0, 0)}.items()
    for mark in MARKS
    for target, (addresses, port) in TARGETS.items()
    for address in addresses
]


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


def _rows(cases: Iterable[str]) -> list[ParameterSet]:
    """Return each case with each backend."""
    return [
        pytest.param(case, backend, id=f"{case}-{backend}", marks=[] if backend == "nft" else needing_ids(case))
        for case in cases
        for backend in TRIED
    ]


@pytest.mark.parametrize(("case", "backend"), _rows(CASES))
def test_kernel_and_simulator_agree(case: str, backend: str, record_property: Callable[[str, object], None]) -> None:
    """Whoever sends what to whom, resolver up or down: the kernel does what the simulator says."""
    rules = plan(CASES[case])
    wrong = []
    for name, value in {"case": case, "backend": backend, "probes": 2 * len(PROBES)}.items():
        record_property(name, value)
    with world(backend=backend) as there:
        there.install(CASES[case])
        for alive in ((), tuple(Family)):
            if alive:
                there.beat()
            for probe in PROBES:
                verdict = simulate(rules, probe.packet(), alive)
                seen = there.send(probe)
                if seen != (verdict.fate, verdict.port):
                    wrong.append(f"{probe.name}, resolver {'up' if alive else 'down'}: {verdict} but {seen}")
            wrong += _wrong_heartbeats(there, rules, alive)
    assert not wrong, "\n".join(wrong[:20])


def _wrong_heartbeats(there: World, rules: RuleSet, alive: tuple[Family, ...]) -> list[str]:
    """Send every empty datagram; returns what the kernel takes for a heartbeat otherwise than the simulator."""
    beats = [simulate(rules, probe.packet(udp_length=EMPTY_DATAGRAM_BYTES), alive).beats for probe in EMPTY_DATAGRAMS]
    wrong = []
    for wanted in (False, True) if alive else (False,):  # none that would open the switch before its time
        sent = [probe for probe, is_beat in zip(EMPTY_DATAGRAMS, beats, strict=True) if is_beat is wanted]
        before = _beats(there)
        for probe in sent:
            there.send_empty(probe)
        counted = _beats(there) - before
        if counted != len(sent) * wanted:
            wrong.append(f"{counted} heartbeats among {len(sent)} that are {'all' if wanted else 'no'} heartbeats")
            wrong += [probe.name for probe in sent if _counts(there, probe) is not wanted]
    return wrong


def _counts(there: World, probe: Probe) -> bool:
    before = _beats(there)
    there.send_empty(probe)
    return _beats(there) > before


def _beats(there: World) -> int:
    """Return how many heartbeats the kernel has counted."""
    return sum(
        observed.packets
        for chain in there.held().chains
        for observed in chain.rules
        if observed.rule and isinstance(observed.rule.action, Beat)
    )


@pytest.mark.parametrize(
    ("case", "backend"), _rows(["defaults", "exclude-group", "exclude-port-53", "exclude-interface", "owner-group"])
)
def test_what_is_left_alone_is_left_alone_fully(case: str, backend: str) -> None:
    """A firewall that lets in only answers it has seen asked changes no packet's fate, captured or not."""
    rules = plan(CASES[case])
    with world(backend=backend) as there:
        there.pod.run("nft", "-f", "-", stdin=STATEFUL_FIREWALL)
        there.install(CASES[case])
        there.beat()
        for probe in PROBES:
            if not probe.inbound:
                verdict = simulate(rules, probe.packet(), tuple(Family))
                assert there.send(probe) == (verdict.fate, verdict.port), probe.name


@pytest.fixture(scope="module")
def lasting() -> Iterator[World]:
    """Give all examples one world: each takes its rules away again."""
    with world() as there:
        yield there


ALIVE = st.booleans().map(lambda alive: tuple(Family) if alive else ())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=SPECS, probes=st.lists(st.sampled_from(PROBES), min_size=10, max_size=20, unique=True), alive=ALIVE)
def test_any_configuration_and_packet_agree(
    lasting: World, drawn: CaptureSpec, probes: list[Probe], alive: tuple[Family, ...]
) -> None:
    """The law: whatever the configuration and the packet, nft's fate for it is the simulator's."""
    # Where somebody listens, and a heartbeat that lasts as long as the test.
    wanted = replace(drawn, dns_port=SPEC.dns_port, heartbeat_timeout_s=SPEC.heartbeat_timeout_s)
    rules = plan(wanted)
    lasting.install(wanted)
    try:
        if alive:
            lasting.beat()
        for probe in probes:
            verdict = simulate(rules, probe.packet(), alive)
            assert lasting.send(probe) == (verdict.fate, verdict.port), (probe.name, verdict)
    finally:
        lasting.uninstall()


def test_a_wrong_rule_would_be_noticed() -> None:
    """The comparison fails when the kernel holds other rules than the simulator walks."""
    rules = plan(CASES["defaults"])
    with world() as there:
        there.install(CASES["closed"])
        disagreements = [
            probe for probe in PROBES if there.send(probe)[0] is not simulate(rules, probe.packet(), ()).fate
        ]
    assert {probe.port for probe in disagreements} == {53}
