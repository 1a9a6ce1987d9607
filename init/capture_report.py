"""What `meshdns capture` prints: plans, state and verdicts, for people and as JSON. Nothing is decided here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import click

from meshdns.capture.apply import commit
from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import Installation
from meshdns.capture.apply.record import Record, to_comments
from meshdns.capture.dialects.nft.render import render
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.settings import to_shown_settings
from meshdns.capture.policy.simulate import Verdict
from meshdns.capture.policy.spec import Family
from meshdns.init import present

NO_RULE = "-"


def print_plan(record: Record, form: str) -> None:
    """Print the rules of an installation as `text`, `json`, `nft` or `iptables`."""
    rules = plan(record.spec)
    backend = BACKENDS[record.backend]()
    if form == "nft":
        click.echo(render(rules, to_comments(record, backend.comment_length)).text, nl=False)
    elif form == "iptables":
        # Imported late: the dialect's imports are half of an install's time, and most plans are for nft.
        from meshdns.capture.dialects.iptables.render import render_plan  # noqa: PLC0415

        click.echo(render_plan(rules, to_comments(record, backend.comment_length)), nl=False)
    elif form == "json":
        click.echo(json.dumps(_plan(record), indent=2))
    else:
        rows = [(chain.name, rule.id, backend.text(rule), rule.why) for chain in rules.chains for rule in chain.rules]
        present.table(("CHAIN", "ID", "RULE", "WHY"), rows)


def _plan(record: Record) -> dict[str, Any]:
    text = BACKENDS[record.backend]().text
    chains = [
        {
            "name": chain.name,
            "hook": chain.hook.value,
            "stage": chain.stage.name.lower(),
            "rules": [{"id": rule.id, "rule": text(rule), "why": rule.why} for rule in chain.rules],
        }
        for chain in plan(record.spec).chains
    ]
    return {
        "version": record.version,
        "backend": record.backend,
        "fingerprint": record.fingerprint,
        "spec": to_shown_settings(record.spec),
        "chains": chains,
    }


def print_status(
    found: Installation, confirm_within_s: float | None = None, abandoned: commit.Pending | None = None
) -> None:
    """Print what is installed, for people.

    `confirm_within_s`: how long a confirmation is waited for, if it is. `abandoned`: a trial that nobody ends.
    """
    if confirm_within_s is not None:
        click.echo(f"to be confirmed within {confirm_within_s:.0f} s, or what was before comes back")
    if abandoned:
        click.echo(f"not confirmed in time, and {commit.ways_out(abandoned)}")
    if found.condition is Condition.ABSENT:
        click.echo("nothing is installed")
        return
    for line in _status_lines(found):
        click.echo(line)
    rows = [(chain, rule_id, str(packets)) for chain, rule_id, packets, _ in _counters(found.held)]
    if rows:
        present.table(("CHAIN", "ID", "PACKETS"), rows)


def _status_lines(found: Installation) -> Iterator[str]:
    if found.record:
        yield f"installed by meshdns {found.record.version} with {found.record.backend}, {_since(found.record)}"
        yield f"fingerprint {found.record.fingerprint}"
        for family in found.record.spec.families:
            alive, closed = _heartbeat(found.held, found.record, family)
            yield f"heartbeat {family.value}: {'alive' if alive else 'none'}, closed {present.count(closed, 'time')}"
    elif found.planned_by:
        yield f"installed by meshdns {found.planned_by}, whose record this version cannot read"
    elif _is_in_force(found):
        yield "installed, but its record is gone: `meshdns capture install` puts both in place again"
    else:
        yield "emptied by somebody, so nothing is captured: `meshdns capture install` puts the rules back"
    if found.condition is Condition.SAME:
        yield "drift: none"
    else:
        yield f"drift: {present.count(len(found.drift), 'difference')}, shown by `meshdns capture diff`"
    yield from found.beside


def _is_in_force(found: Installation) -> bool:
    """Return whether anything of ours does something; an emptied table does not."""
    return found.record is not None or any(chain.rules for chain in found.held.chains)


def _since(record: Record) -> str:
    if record.installed_at is None:
        return "loaded by hand"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.installed_at))


def status_json(
    found: Installation, confirm_within_s: float | None = None, abandoned: commit.Pending | None = None
) -> str:
    """Return what is installed, for programs; the rest as for people."""
    record = found.record
    heartbeat = {}
    if record:
        for family in record.spec.families:
            alive, closed = _heartbeat(found.held, record, family)
            heartbeat[family.value] = {"alive": alive, "closed": closed}
    document = {
        "installed": _is_in_force(found),
        "version": record.version if record else found.planned_by,
        "installed_at": record.installed_at if record else None,
        "backend": record.backend if record else None,
        "fingerprint": record.fingerprint if record else None,
        "heartbeat": heartbeat,
        "confirm_within_s": confirm_within_s,
        "trial_abandoned": abandoned is not None,
        "drift": list(found.drift),
        "rules": [
            {"chain": chain, "id": rule_id, "packets": packets, "bytes": size}
            for chain, rule_id, packets, size in _counters(found.held)
        ],
        "spec": to_shown_settings(record.spec) if record else None,
    }
    return json.dumps(document, indent=2)


def _heartbeat(held: Observed, record: Record, family: Family) -> tuple[bool, int]:
    """Return whether the family is alive, and how often it ceased to be since it was installed.

    It was open once more than that while it is alive. That it was open already is no opening that the rules counted.
    """
    alive = family in held.alive
    opened = sum(
        rule.packets
        for chain in held.chains
        for rule in chain.rules
        if rule.rule and rule.rule.match.family is family and rule.rule.id.startswith("beat-opens")
    )
    return alive, max(opened + (family in record.open_before) - alive, 0)


def _counters(held: Observed) -> Iterator[tuple[str, str, int, int]]:
    for chain in held.chains:
        for rule in chain.rules:
            yield chain.name.replace("_", "-"), rule.rule.id if rule.rule else rule.text, rule.packets, rule.bytes


def print_verdict(verdict: Verdict, *, as_json: bool) -> None:
    """Print a packet's fate, the rule that decides it and why that rule is there."""
    rule_id = verdict.rule.id if verdict.rule else None
    if as_json:
        document = {"verdict": verdict.fate.value, "port": verdict.port, "rule": rule_id, "reason": verdict.reason}
        click.echo(json.dumps(document))
        return
    click.echo(verdict.fate.value if verdict.port is None else f"{verdict.fate.value} {verdict.port}")
    click.echo(rule_id or NO_RULE)
    click.echo(verdict.reason)
