"""What should be there against what is there: one word for programs, lines for people. Order counts.

Only what is ours is looked at: nobody else's rule is drift.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterator

from meshdns.capture.dialects.observed import Observed, ObservedRule
from meshdns.capture.policy.ruleset import Hook, Rule, RuleSet, Stage


class Condition(enum.Enum):
    """How the kernel's rules stand to those that are wanted."""

    ABSENT = "absent"
    SAME = "same"
    STALE = "stale"
    """Rules of ours, but other ones."""
    FOREIGN = "foreign"
    """Under our name stands something that we never write."""


Place = tuple[Hook, Stage]


def compare(wanted: RuleSet, held: Observed) -> Condition:
    """Return how `held` stands to `wanted`, which must be what the backend calls visible."""
    if not held.present:
        return Condition.ABSENT
    if held.strangers or any(chain.place is None for chain in held.chains):
        return Condition.FOREIGN
    if any(rule.rule is None for chain in held.chains for rule in chain.rules):
        return Condition.FOREIGN
    return Condition.SAME if _wanted(wanted) == _held(held) else Condition.STALE


def differences(wanted: RuleSet, held: Observed) -> tuple[str, ...]:
    """Return lines of `- expected` and `+ live`, in order, with the chain in front; nothing where both are the same."""
    expected = [f"{chain.name}: {_text(rule)}" for chain in wanted.chains for rule in chain.rules]
    live = list(_live(wanted, held))
    marked = (line for line in difflib.ndiff(expected, live, linejunk=None, charjunk=None))
    return tuple(line for line in marked if line[0] in "-+")


def _live(wanted: RuleSet, held: Observed) -> Iterator[str]:
    names = {(chain.hook, chain.stage): chain.name for chain in wanted.chains}
    order = list(names)
    known = [chain for chain in held.chains if chain.place in names]
    for chain in sorted(known, key=lambda chain: order.index(chain.place) if chain.place else 0):
        for rule in chain.rules:
            yield f"{names[chain.place] if chain.place else chain.name}: {_observed_text(rule)}"
    for chain in held.chains:
        if chain.place not in names:
            yield from (f"{chain.name}: {_observed_text(rule)}" for rule in chain.rules)
            yield f"{chain.name}: a chain that should not be here"
    yield from held.strangers


def _observed_text(rule: ObservedRule) -> str:
    return _text(rule.rule) if rule.rule else rule.text


def _text(rule: Rule) -> str:
    return f"{rule.id} {rule.match} {rule.action}"


def _wanted(rules: RuleSet) -> dict[Place, tuple[Rule, ...]]:
    return {(chain.hook, chain.stage): chain.rules for chain in rules.chains}


def _held(held: Observed) -> dict[Place | None, tuple[Rule | None, ...]]:
    return {chain.place: tuple(rule.rule for rule in chain.rules) for chain in held.chains}
