"""What an answer, or that there is none, proves of a check. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Fate, Verdict
from meshdns.capture.prove.checks import HELLO, Check, Kind, is_ours
from meshdns.capture.prove.exchange import Fault, Reply


class Outcome(enum.Enum):
    """What a check came to."""

    PROVEN = "ok"
    FAILED = "FAILED"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was checked, what came out, and why."""

    step: str
    outcome: Outcome
    why: str = ""


def judge(check: Check, reply: Reply, *, is_counted: bool) -> Finding:
    """Return what the reply says of the check; `is_counted`: the counters of rules are seen, and judged besides."""
    if reply.fault is Fault.NOT_PERMITTED:
        return Finding(check.step, Outcome.UNCHECKED, f"{reply.detail}: run as root, or with CAP_SETUID and CAP_SETGID")
    if check.kind in {Kind.RELAY, Kind.POOL} and check.hindered and check.verdict.rule:
        why = f"the rules leave it alone: {check.verdict.rule.id}: a route by another interface has it captured"
        return Finding(check.step, Outcome.FAILED, why)
    if reply.fault is Fault.NO_ROUTE and check.verdict.fate is not Fate.DIRECT:
        why = f"no route to {check.probe.destination} ({reply.detail}), and rules see only what has one"
        return Finding(check.step, Outcome.FAILED if check.must_leave else Outcome.UNCHECKED, why)
    if check.kind is Kind.KNOCK and reply.fault is Fault.NO_ROUTE:
        return Finding(check.step, Outcome.UNCHECKED, f"no route to {check.probe.destination} ({reply.detail})")
    if check.kind is Kind.KNOCK and not is_counted:
        why = "only its rule's counter proves it, which cannot be read: run as root, or with CAP_NET_ADMIN"
        return Finding(check.step, Outcome.UNCHECKED, why)
    wrong = _WRONG[check.kind](check, reply)
    return Finding(check.step, Outcome.FAILED, wrong) if wrong else Finding(check.step, Outcome.PROVEN)


def _wrong_lookup(check: Check, reply: Reply) -> str:
    arrived = is_ours(reply.data, check.token, stream=check.probe.protocol is Protocol.TCP)
    if check.verdict.fate is Fate.REDIRECT:
        return "" if arrived else f"it did not reach the resolver: {_said(reply)}; {_deciding(check.verdict)}"
    return f"it reached the resolver, and must not: {_deciding(check.verdict)}" if arrived else ""


def _wrong_relay(check: Check, reply: Reply) -> str:
    if check.verdict.fate is not Fate.REDIRECT or reply.data.startswith(b"meshdns "):
        return ""
    return f"it did not reach the relay: {_said(reply)}; {_deciding(check.verdict)}"


def _wrong_pool(check: Check, reply: Reply) -> str:
    if check.verdict.fate is not Fate.REJECT or reply.fault is Fault.REFUSED:
        return ""
    return f"it was not refused: {_said(reply)}; {_deciding(check.verdict)}"


def _wrong_local(check: Check, reply: Reply) -> str:
    # A listener of ours accepted it, or somebody else did.
    if check.verdict.fate is not Fate.DIRECT or reply.data == HELLO:
        return ""
    return f"it did not stay here: {_said(reply)}; {_deciding(check.verdict)}"


_WRONG: Final = {
    Kind.LOOKUP: _wrong_lookup,
    Kind.RELAY: _wrong_relay,
    Kind.POOL: _wrong_pool,
    Kind.KNOCK: lambda _check, _reply: "",  # its rule's counter is what it proves
    Kind.LOCAL: _wrong_local,
}


def _said(reply: Reply) -> str:
    if reply.fault is None:
        return "somebody else answered"
    return reply.fault.value if reply.fault is Fault.SILENT else f"{reply.fault.value} ({reply.detail})"


def _deciding(verdict: Verdict) -> str:
    if verdict.rule is None:
        return verdict.reason
    port = f" to port {verdict.port}" if verdict.port else ""
    return f"rule {verdict.rule.id} should decide: {verdict.fate.value}{port}"
