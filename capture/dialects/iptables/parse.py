"""Saved tables of both families -> Observed: the inverse of `change.installation`, whatever else may stand there.

A rule set names both families, iptables keeps them apart: reading joins what stands in both alike to one rule, and
`visible` says how a rule set looks after that. Nobody else's chain or rule is told of, but what leads into ours is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final

from meshdns.capture.dialects.iptables.arguments import Understood, understand
from meshdns.capture.dialects.iptables.entry import in_family, join
from meshdns.capture.dialects.iptables.heartbeat import Heartbeats
from meshdns.capture.dialects.iptables.place import (
    PLACES,
    Jump,
    generation_of,
    holds_ours,
    is_about,
    jump,
    jumps,
    our_rules,
    place_of,
)
from meshdns.capture.dialects.iptables.save import SavedRule, SavedTable, Tables, line_of
from meshdns.capture.dialects.observed import NOTHING, Observed, ObservedChain, ObservedRule
from meshdns.capture.policy.ruleset import Beat, Hook, Rule, RuleSet, Stage
from meshdns.capture.policy.spec import Family

Key = tuple[Hook, Stage]


def parse(tables: Mapping[Family, Tables], heartbeats: Heartbeats | None = None) -> Observed:
    """Return what of ours stands in the tables of the families."""
    if not holds_ours(tables):
        return NOTHING
    timeout_s = _timeout(tables)
    chains: dict[Key, dict[Family, list[ObservedRule]]] = {}
    about: list[str] = []
    strangers: list[str] = []
    for family, found in tables.items():
        for table in found.values():
            if table.hidden:
                strangers.append(f"{family.value} {table.name}: something that only nft shows")
            in_force, odd = _in_force(table)
            strangers += (f"{family.value} {table.name}: {text}" for text in odd)
            for chain, rules in our_rules(table).items():
                key = place_of(table.name, chain)
                if key and chain in in_force:
                    chains.setdefault(key, {})[family] = list(_rules(family, rules, timeout_s))
                elif is_about(table.name, chain) and generation_of(chain) in map(generation_of, in_force):
                    about += (_comment(rule) for rule in rules)
                else:
                    strangers.append(f"{family.value} {table.name}: chain {chain}, which nothing of ours leads to")
    return Observed(
        present=True,
        chains=tuple(
            ObservedChain(place.name.lower(), key, _merged(chains[key]))
            for key, place in PLACES.items()
            if key in chains
        ),
        about=tuple(about),
        alive=heartbeats.alive(timeout_s) if heartbeats else frozenset(),
        strangers=tuple(strangers),
    )


def visible(rules: RuleSet) -> RuleSet:
    """Return the rule set as reading shows it: no reasons, and each rule of the families it is in."""
    chains = []
    for chain in rules.chains:
        by_family = {family: list(_projected(chain.rules, family)) for family in rules.families}
        merged = tuple(found.rule for found in _merged(by_family) if found.rule)
        if merged:
            chains.append(replace(chain, rules=merged))
    return replace(rules, chains=tuple(chains))


def _projected(rules: Iterable[Rule], family: Family) -> Iterator[ObservedRule]:
    for rule in rules:
        if rule.match.family in {None, family}:
            yield ObservedRule(in_family(rule, family), "")


def _in_force(table: SavedTable) -> tuple[set[str], list[str]]:
    """Return the chains of ours that the first rules of the right chain lead to, and what else leads to ours."""
    in_force: set[str] = set()
    odd = []
    leading: Counter[str] = Counter()
    for found in jumps(table):
        is_next = found.position == leading[found.chain] + 1 and found.target not in in_force
        if _is_ours(table.name, found) and is_next:
            leading[found.chain] += 1
            in_force.add(found.target)
        else:
            odd.append(f"rule {found.position} of {found.chain}: {_text(found.words)}")
    return in_force, odd


def _is_ours(table: str, found: Jump) -> bool:
    key = place_of(table, found.target)
    return key is not None and PLACES[key].hook == found.chain and found.words == jump(found.target)


def _rules(family: Family, saved: Iterable[SavedRule], timeout_s: int) -> Iterator[ObservedRule]:
    """Yield the rules of a chain; entries in a row with one id are one rule, counted together."""
    entries = [(understand(family, rule.words), rule) for rule in saved]
    for rule_id, group in groupby(entries, key=lambda pair: pair[0].rule_id if pair[0] else None):
        found = list(group)
        rule = _joined(rule_id, [understood for understood, _ in found if understood], timeout_s) if rule_id else None
        if rule:
            # A packet counts in the one entry that it matched.
            packets = sum(entry.packets for _, entry in found)
            yield ObservedRule(rule, "", packets, sum(entry.bytes for _, entry in found))
        else:
            yield from (ObservedRule(None, _text(entry.words), entry.packets, entry.bytes) for _, entry in found)


def _joined(rule_id: str, entries: Sequence[Understood], timeout_s: int) -> Rule | None:
    if any(entry.timeout_s not in {None, timeout_s} for entry in entries):
        return None
    rule = join(rule_id, [entry.entry for entry in entries])
    return replace(rule, action=Beat(timeout_s)) if rule and isinstance(rule.action, Beat) else rule


def _timeout(tables: Mapping[Family, Tables]) -> int:
    """Return the heartbeat timeout: what most entries of ours that ask for one say."""
    asked = [
        found[1]
        for tables_now in tables.values()
        for table in tables_now.values()
        for rules in our_rules(table).values()
        for rule in rules
        if (found := _SECONDS.search(" ".join(rule.words)))
    ]
    return int(max(asked, key=asked.count)) if asked else 0


_SECONDS: Final = re.compile(r"--seconds ([0-9]{1,9})(?= )")


def _merged(by_family: Mapping[Family, Sequence[ObservedRule]]) -> tuple[ObservedRule, ...]:
    """Return one sequence for both families that keeps the order of each; what is alike in both stands once."""
    left = list(by_family.get(Family.IPV4, ()))
    right = list(by_family.get(Family.IPV6, ()))
    common = {_alike(rule) for rule in left} & {_alike(rule) for rule in right} - {None}
    merged: list[ObservedRule] = []
    while left or right:
        while left and _alike(left[0]) not in common:
            merged.append(left.pop(0))
        while right and _alike(right[0]) not in common:
            merged.append(right.pop(0))
        if left and right and _alike(left[0]) == _alike(right[0]):
            merged.append(_both(left.pop(0), right.pop(0)))
        elif left or right:
            merged.append((left or right).pop(0))  # in another order: somebody moved them
    return tuple(merged)


def _alike(found: ObservedRule) -> Rule | None:
    """Return the rule without its family, None where it has addresses, which belong to one."""
    if found.rule is None or found.rule.match.source or found.rule.match.destination:
        return None
    return replace(found.rule, match=replace(found.rule.match, family=None))


def _both(left: ObservedRule, right: ObservedRule) -> ObservedRule:
    return ObservedRule(_alike(left), "", left.packets + right.packets, left.bytes + right.bytes)


def _comment(rule: SavedRule) -> str:
    return rule.words[-1] if rule.words[:-1] == ("-m", "comment", "--comment") else f"not a comment: {rule.words}"


def _text(words: Iterable[str]) -> str:
    try:
        return line_of(words)
    except ValueError:
        return ascii(" ".join(words))
