"""What holds for every configuration and every packet."""

from __future__ import annotations

from dataclasses import replace

from capture_strategies import PACKETS, SPECS
from capturing import SPEC
from hypothesis import given
from hypothesis import strategies as st

from meshdns.capture.policy.plan import EMPTY_DATAGRAM_BYTES, plan
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Fate, Packet, simulate
from meshdns.capture.policy.spec import CaptureSpec, Family
from meshdns.capture.policy.terms import LISTENER

ALIVE = st.sampled_from(((), (Family.IPV4,), (Family.IPV6,), tuple(Family)))


@given(SPECS)
def test_the_same_spec_gives_the_same_rules(spec: CaptureSpec) -> None:
    """Planning never fails for a spec that could be built, and depends on nothing else."""
    anew = plan.__wrapped__(spec)
    assert anew == plan(spec)
    assert anew.fingerprint() == plan(spec).fingerprint()


@given(SPECS, PACKETS, ALIVE)
def test_only_what_is_captured_is_tracked_apart(spec: CaptureSpec, packet: Packet, alive: tuple[Family, ...]) -> None:
    """A zone is set on a packet exactly when it is a lookup by UDP that goes to the resolver."""
    verdict = simulate(plan(spec), packet, alive)
    to_resolver = verdict.fate is Fate.REDIRECT and verdict.rule is not None and "-dns-" in verdict.rule.id
    assert (verdict.zone == spec.ct_zone) == (to_resolver and packet.protocol is Protocol.UDP)
    assert verdict.zone in {None, spec.ct_zone}


@given(SPECS, PACKETS, ALIVE)
def test_the_proxy_leaves_freely(spec: CaptureSpec, packet: Packet, alive: tuple[Family, ...]) -> None:
    """Whatever the configuration, the proxy's packets to other machines are direct, by whichever sign it is known."""
    rules = plan(spec)
    senders = [replace(packet, uid=uid) for uid in spec.proxy_uids]
    senders += [replace(packet, gid=gid) for gid in spec.proxy_gids]
    senders += [replace(packet, mark=spec.proxy_mark)] if spec.proxy_mark else []
    for sent in senders:
        assert simulate(rules, replace(sent, out_interface="eth0"), alive).fate is Fate.DIRECT


@given(SPECS, PACKETS)
def test_a_family_left_out_is_left_alone(spec: CaptureSpec, packet: Packet) -> None:
    """No rule of any configuration touches a family that it does not name."""
    if packet.family not in spec.families:
        verdict = simulate(plan(spec), packet, tuple(Family))
        assert verdict.fate is Fate.DIRECT
        assert verdict.zone is None


@given(SPECS, PACKETS)
def test_nothing_is_redirected_to_a_dead_resolver(spec: CaptureSpec, packet: Packet) -> None:
    """Without a heartbeat no lookup and no outbound connection is redirected."""
    verdict = simulate(plan(spec), packet, ())
    assert verdict.fate is not Fate.REDIRECT or (verdict.rule is not None and "hairpin" in verdict.rule.id)


@given(SPECS, PACKETS, ALIVE, st.sampled_from((0, 77, SPEC.heartbeat_mark)))
def test_the_proxys_user_beats_and_nobody_else(
    spec: CaptureSpec, packet: Packet, alive: tuple[Family, ...], mark: int
) -> None:
    """Its empty datagram to the DNS port is a heartbeat by whatever mark; no other packet is, by whatever way."""
    rules = plan(spec)
    empty = replace(packet, protocol=Protocol.UDP, in_interface="", udp_length=EMPTY_DATAGRAM_BYTES, mark=mark)
    listener = LISTENER[packet.family].network_address
    beat = replace(
        empty, destination=listener, destination_port=spec.dns_port, source=None, out_interface="lo", local=True
    )
    for sent in (packet, empty, replace(empty, destination_port=53), beat):
        assert not simulate(rules, sent, alive).beats or sent.uid in spec.proxy_uids
    for uid in spec.proxy_uids:
        assert simulate(rules, replace(beat, uid=uid), alive).beats == (packet.family in spec.families)


@given(SPECS, PACKETS)
def test_open_refuses_no_more_than_the_pools(spec: CaptureSpec, packet: Packet) -> None:
    """With the switch open by default only addresses of the pools are ever refused."""
    if spec.on_resolver_down.value == "open" and simulate(plan(spec), packet, ()).fate is Fate.REJECT:
        assert any(packet.destination in pool for pool in spec.pools)
