"""What should be there against what is there: one word for programs, lines for people. Order counts.

Only what is ours is looked at: nobody else's rule is drift.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator

from meshdns.capture.apply.backend import Backend
from meshdns.capture.dialects.observed import Observed, ObservedChain
from meshdns.capture.policy.ruleset import Hook, Rule, RuleSet, Stage
from meshdns.capture.values import replace


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


def differences(planned: RuleSet, held: Observed, backend: Backend, recorded: RuleSet | None = None) -> tuple[str, ...]:
    """Return lines of `- expected` and `+ live`, in order, with the chain in front; nothing where both are the same.

    A kernel's listing may cut a time short. Where it fits the rules that were `recorded`, it is told as they have it.
    """
    wanted = backend.visible(planned)
    whole = _whole(planned, backend)
    expected = [
        f"{chain.name}: {rule.id}: {backend.text(whole[rule])}" for chain in wanted.chains for rule in chain.rules
    ]
    known = whole if recorded is None else {**whole, **_whole(recorded, backend)}
    live = list(_live(wanted, held, lambda rule: backend.text(known.get(rule, rule))))
    if live == expected:
        return ()
    import difflib  # noqa: PLC0415 - hardly ever is there a difference to tell

    marked = difflib.ndiff(expected, live, linejunk=None, charjunk=None)
    return tuple(line for line in marked if line[0] in "-+")


def _whole(rules: RuleSet, backend: Backend) -> dict[Rule, Rule]:
    """Return for each rule as the backend shows it the same with the times that were planned."""
    actions = {rule.id: rule.action for rule in rules.rules()}
    return {rule: replace(rule, action=actions[rule.id]) for rule in backend.visible(rules).rules()}


def _live(wanted: RuleSet, held: Observed, text: Callable[[Rule], str]) -> Iterator[str]:
    """Yield the rules that are there, chains in the order wanted, what is in no such place behind them."""
    names = {(chain.hook, chain.stage): chain.name for chain in wanted.chains}
    chains = {chain.place: chain for chain in held.chains if chain.place in names}
    for place, name in names.items():
        yield from _lines(name, chains[place], text) if place in chains else ()
    for chain in held.chains:
        if chain.place not in names:
            yield f"{chain.name}: a chain that should not be here"
            yield from _lines(chain.name, chain, text)
    yield from held.strangers


def _lines(name: str, chain: ObservedChain, text: Callable[[Rule], str]) -> Iterator[str]:
    for observed in chain.rules:
        rule = observed.rule
        yield f"{name}: {rule.id}: {text(rule)}" if rule else f"{name}: {observed.text}"


def _wanted(rules: RuleSet) -> dict[Place, tuple[Rule, ...]]:
    return {(chain.hook, chain.stage): chain.rules for chain in rules.chains}


def _held(held: Observed) -> dict[Place | None, tuple[Rule | None, ...]]:
    return {chain.place: tuple(rule.rule for rule in chain.rules) for chain in held.chains}
