"""Verification, step by step: the rules are there, the heartbeat opens them, packets meet their fate, rules count.

What is sent and what it proves is `checks.py`'s, the sending `probe.py`'s. The caller is in the right network
namespace. Nothing is changed.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from meshdns.capture.apply import scopes, steering
from meshdns.capture.apply.backend import Backend
from meshdns.capture.apply.choice import with_others
from meshdns.capture.apply.compare import Condition, compare, differences
from meshdns.capture.apply.install import Installation, inspect
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Hook, Redirect, RuleSet, TransparentProxy
from meshdns.capture.policy.simulate import Fate
from meshdns.capture.policy.spec import CaptureSpec, Family, Server
from meshdns.capture.policy.terms import LISTENER
from meshdns.capture.prove.checks import HELLO, SAMPLES, Check, Kind, Person, Planner, exempt
from meshdns.capture.prove.exchange import Fault, Reply
from meshdns.capture.prove.judge import Finding, Outcome, judge
from meshdns.capture.prove.leaving import Way
from meshdns.capture.prove.probe import ROUND_S, can_be, greeting, send_all
from meshdns.capture.prove.ready import wait_for_beat
from meshdns.capture.system import scope
from meshdns.capture.system.listeners import Listener, listeners

ORDINARY: Final = 65534
"""nobody, on most systems: no process of the mesh's is likely to be it."""
BEAT_WAIT_S: Final = 2.0
"""Four heartbeats: a resolver that has just been started, or rules that have just been installed, need one."""
NONCE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be verified: `spec` None means what is recorded with the rules.

    `listed`: the nameservers to ask where every server is captured. `suffix`: the names that only our resolver knows.
    """

    spec: CaptureSpec | None
    listed: tuple[Server, ...]
    suffix: str
    wait_s: float = ROUND_S


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules as they are; `backend` None where we may not read them."""

    spec: CaptureSpec
    wanted: RuleSet
    backend: Backend | None

    def read(self) -> Observed | None:
        return self.backend.read() if self.backend else None


def verify(backend: Backend, question: Question, *, rules_only: bool = False) -> Iterator[Finding]:
    """Yield what was checked and what came out, step by step; PreflightError where there is nothing to go by."""
    found = _inspect(backend, question)
    if found is None and question.spec:
        rules = _Rules(question.spec, plan(question.spec), None)
        yield Finding("rules", Outcome.UNCHECKED, "they cannot be read: run as root, or with CAP_NET_ADMIN")
    elif found is None or found.condition is Condition.ABSENT:
        yield Finding("rules", Outcome.FAILED, "nothing is installed: run `meshdns capture install`")
        return
    else:
        yield from (Finding("other backends", Outcome.FAILED, line) for line in found.beside)
        spec = question.spec or (found.record.spec if found.record else None)
        if spec is None:
            yield Finding("rules", Outcome.FAILED, f"{found.drift[0]}: run `meshdns capture install`")
            return
        rules = _Rules(spec, plan(spec), backend)
        yield from _rules_findings(rules, found, backend)
    if not rules_only:
        yield from _heartbeat(rules)
        yield from _packets(rules, question)
        yield from _inbound(rules)


def _inspect(backend: Backend, question: Question) -> Installation | None:
    try:
        return with_others(inspect(backend), backend)
    except PreflightError:
        if question.spec is None:
            raise
        return None


def _rules_findings(rules: _Rules, found: Installation, backend: Backend) -> Iterator[Finding]:
    """Yield each rule that is not as it should be, with what it is for, and what routing lacks besides."""
    for line in (*scopes.differences(rules.spec), *steering.differences(rules.spec)):
        yield Finding("routing", Outcome.FAILED, f"expected (-) against live (+): {line}")
    recorded = plan(found.record.spec) if found.record else None
    told = differences(rules.wanted, found.held, backend, recorded)
    if not told and compare(backend.visible(rules.wanted), found.held) is Condition.SAME:
        yield Finding("rules", Outcome.PROVEN)
        return
    held = {rule.rule.id for chain in found.held.chains for rule in chain.rules if rule.rule}
    missing = [rule for rule in rules.wanted.rules() if rule.id not in held]
    for rule in missing:
        yield Finding(f"rule {rule.id}", Outcome.FAILED, f"it is missing: {rule.why}")
    if not missing:
        for line in told:
            yield Finding("rules", Outcome.FAILED, f"expected (-) against live (+): {line}")


def _heartbeat(rules: _Rules) -> Iterator[Finding]:
    """Yield for each family whether the dead-man's switch is on; without it nothing is captured."""
    if rules.backend is None:
        yield Finding("heartbeat", Outcome.UNCHECKED, "the rules cannot be read")
        return
    alive = wait_for_beat(rules.backend, rules.spec.families, BEAT_WAIT_S)
    uids = " or ".join(map(str, rules.spec.proxy_uids))
    for family in rules.spec.families:
        why = (
            f"none within {rules.spec.heartbeat_timeout_s:g} s, so nothing is captured: does the resolver run as uid "
            f"{uids}, listen on port {rules.spec.dns_port}, and does the firewall let lo pass?"
        )
        outcome = Outcome.PROVEN if family in alive else Outcome.FAILED
        yield Finding(f"heartbeat {family.value}", outcome, "" if family in alive else why)


def _packets(rules: _Rules, question: Question) -> Iterator[Finding]:
    spec = rules.spec
    somebody = _somebody(spec)
    exempted = exempt(spec, somebody)
    possible = tuple(person for person in exempted if can_be(person.sender))
    for person in exempted:
        if person not in possible:
            yield Finding(
                f"lookups as {person.name}", Outcome.UNCHECKED, "we may not act as them: CAP_SETUID, CAP_SETGID"
            )
    planner = _planner(rules, question)
    is_captured = somebody.uid not in spec.proxy_uids
    if not is_captured:
        yield Finding("lookups as an ordinary user", Outcome.UNCHECKED, "we are the proxy and may not act as another")
    before = _counted(rules)
    with greeting([LISTENER[family].network_address for family in spec.families], HELLO) as listeners:
        first = (
            *planner.first_round(somebody if is_captured else None, possible),
            *planner.local(somebody, listeners),
        )
        replies = send_all([check.probe for check in first], question.wait_s)
    judged = partial(judge, is_counted=rules.backend is not None)
    yield from map(judged, first, replies)
    second = tuple(planner.second_round(possible, _ports(first, replies)))
    again = send_all([check.probe for check in second], question.wait_s)
    yield from map(judged, second, again)
    yield from _counters(rules, before, (*first, *second), (*replies, *again))


def _inbound(rules: _Rules) -> Iterator[Finding]:
    """Yield whether inbound TCP is captured. The rules' counters prove it, for no packet of ours comes from outside."""
    heard = tuple(listeners()) if rules.spec.inbound_ports else ()
    port = rules.spec.inbound_port
    counted = _counted(rules)
    for chain in rules.wanted.chains:
        for rule in chain.rules if chain.hook is Hook.PREROUTING else ():
            if rule.action not in {Redirect(port), TransparentProxy(port, rules.spec.tproxy_mark)}:
                continue
            step = f"inbound {rule.match.family.value if rule.match.family else ''}"
            if not any(_hears(one, port, rule.match.family) for one in heard):
                why = f"nobody listens for what comes in on port {port}: start the proxy, or see --inbound-port"
                yield Finding(step, Outcome.FAILED, why)
            elif counted[rule.id]:
                yield Finding(step, Outcome.PROVEN, f"{counted[rule.id]} connections since it was installed")
            else:
                why = "not proven: no connection from outside so far: make one from another machine, and verify again"
                yield Finding(step, Outcome.UNCHECKED, why)


def _hears(listener: Listener, port: int, family: Family | None) -> bool:
    """Return whether connections of a family that are sent to this port may get to the listener."""
    version = 4 if family is Family.IPV4 else 6
    address = listener.address
    reached = not address.is_loopback and (
        address.version == version or (address.is_unspecified and address.version >= version)
    )
    return listener.protocol == "tcp" and listener.port == port and reached


def _planner(rules: _Rules, question: Question) -> Planner:
    from meshdns.capture.system.netlink import routes  # noqa: PLC0415 - 190 ms that `--rules-only` does without

    spec = rules.spec
    listed = [server for server in spec.dns_servers if server.network.prefixlen]
    if len(listed) < len(spec.dns_servers):
        listed += [*question.listed, *SAMPLES]
    servers = tuple(
        dict.fromkeys(_reachable(server for server in listed if Family.of(server.network) in spec.families))
    )
    planner = Planner(
        spec, rules.wanted, servers if spec.dns else (), secrets.token_hex(NONCE_BYTES), question.suffix, {}
    )
    nowhere = Person("", ORDINARY, ORDINARY)
    destinations = [check.probe.destination for check in planner.first_round(nowhere, ())]
    destinations += [LISTENER[family].network_address for family in spec.families]
    ways = {
        destination: Way(route.interface, route.local) if route else None
        for destination, route in routes(destinations).items()
    }
    return Planner(spec, rules.wanted, planner.servers, planner.nonce, planner.suffix, ways)


def _reachable(servers: Iterable[Server]) -> Iterator[Server]:
    """Yield the servers, one that is captured by whatever link by each that its lookups come home from."""
    for server in servers:
        if server.interface is None and scopes.may_be_link_local(server.network):
            yield from (replace(server, interface=interface) for interface in sorted(scope.reachable()))
        else:
            yield server


def _somebody(spec: CaptureSpec) -> Person:
    """Return a user whose traffic is captured, ourselves where we may not act as another."""
    taken = {*spec.proxy_uids, *spec.exclude_uids}
    uid = next(number for number in range(ORDINARY, 0, -1) if number not in taken)
    not_these = {*spec.proxy_gids, *spec.exclude_owner_groups}
    groups = spec.owner_groups or range(ORDINARY, 0, -1)
    gid = next((number for number in groups if number not in not_these), ORDINARY)
    person = Person(f"uid {uid}", uid, gid)
    if can_be(person.sender):
        return person
    return Person(f"uid {os.geteuid()}, ourselves", os.geteuid(), os.getegid())


def _ports(checks: Sequence[Check], replies: Sequence[Reply]) -> dict[Server, int]:
    """Return for one server of each family the source port of a UDP lookup that was captured."""
    found: dict[Family, tuple[Server, int]] = {}
    for check, reply in zip(checks, replies, strict=True):
        is_captured = (
            check.kind is Kind.LOOKUP and check.verdict.fate is Fate.REDIRECT and check.verdict.zone is not None
        )
        if is_captured and reply.source_port and check.server:
            found.setdefault(Family.of(check.probe.destination), (check.server, reply.source_port))
    return dict(found.values())


def _counted(rules: _Rules) -> Counter[str]:
    held = rules.read()
    counted: Counter[str] = Counter()
    for chain in held.chains if held else ():
        for rule in chain.rules:
            if rule.rule:
                counted[rule.rule.id] += rule.packets
    return counted


def _counters(
    rules: _Rules, before: Counter[str], checks: Sequence[Check], replies: Sequence[Reply]
) -> Iterator[Finding]:
    """Yield whether each rule that our packets must have met has counted."""
    if rules.backend is None:
        yield Finding("counters", Outcome.UNCHECKED, "the rules cannot be read")
        return
    after = _counted(rules)
    never_left = {Fault.NOT_PERMITTED, Fault.NO_ROUTE}
    sent = [check for check, reply in zip(checks, replies, strict=True) if reply.fault not in never_left]
    met = frozenset().union(*(check.counters for check in sent))
    still = [rule.id for rule in rules.wanted.rules() if rule.id in met and after[rule.id] <= before[rule.id]]
    for rule_id in still:
        step = next(check.step for check in sent if rule_id in check.counters)
        yield Finding(f"counter of {rule_id}", Outcome.FAILED, f"it did not move with: {step}")
    if not still:
        yield Finding(f"counters of {len(met)} rules", Outcome.PROVEN)
