"""What must be done to each table to get from one set of rules to another, before anybody says it to a program.

A replacement has two steps. `installation` builds a new generation and exchanges the jumps, one table at a time;
`clearance` removes the old generation when all tables are in. Until then `undoing` leads back, table by table.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshdns.capture.dialects.iptables.arguments import arguments
from meshdns.capture.dialects.iptables.entry import expand
from meshdns.capture.dialects.iptables.place import (
    ABOUT,
    PLACES,
    TABLE_ORDER,
    Jump,
    chain_name,
    generation_of,
    jump,
    jumps,
    our_chains,
)
from meshdns.capture.dialects.iptables.save import SavedTable, Tables
from meshdns.capture.errors import SpecError
from meshdns.capture.policy.ruleset import Beat, Chain, RuleSet
from meshdns.capture.policy.spec import Family

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewRule:
    """A rule to append: its words, and the id of the rule of ours that it stands for."""

    words: Words
    rule_id: str | None


@dataclass(frozen=True, slots=True)
class NewChain:
    """A chain to make, with its rules."""

    name: str
    rules: tuple[NewRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is done to one table in one transaction, in the order of the fields."""

    table: str
    new_chains: tuple[NewChain, ...] = ()
    new_jumps: tuple[Jump, ...] = ()
    old_jumps: tuple[Jump, ...] = ()
    old_chains: tuple[str, ...] = ()


EMPTY: Final = SavedTable("", (), ())


def installation(rules: RuleSet, about: Sequence[str], family: Family, held: Tables, generation: int) -> list[Change]:
    """Return what puts `rules` in force in one family, in the place of whatever is; old chains stay, out of use.

    SpecError: a heartbeat timeout that iptables cannot count.
    """
    wanted = dict(_by_table(rules, about, family, generation))
    changes = []
    for table in TABLE_ORDER:
        new = [(chain, hook) for chain, hook in wanted.get(table, []) if chain.rules]
        change = Change(
            table=table,
            new_chains=tuple(chain for chain, _ in new),
            new_jumps=tuple(_leading(new)),
            old_jumps=tuple(jumps(held.get(table, EMPTY))),
        )
        if change != Change(table=table):
            changes.append(change)
    return changes


def clearance(held: Tables, *, unlinked: bool = False) -> list[Change]:
    """Return what removes everything of ours that is held in one family; `unlinked`: the jumps are gone already."""
    changes = []
    for table in TABLE_ORDER:
        saved = held.get(table, EMPTY)
        if old := our_chains(saved):
            leading = () if unlinked else tuple(jumps(saved))
            changes.append(Change(table=table, old_jumps=leading, old_chains=old))
    return changes


def undoing(before: Tables, now: Tables) -> list[Change]:
    """Return what leads back from `now` to `before`, where the two differ by an installation that was not cleared."""
    changes = []
    for table in TABLE_ORDER:
        was, is_now = before.get(table, EMPTY), now.get(table, EMPTY)
        change = Change(
            table=table,
            new_jumps=tuple(found for found in jumps(was) if found not in set(jumps(is_now))),
            old_jumps=tuple(found for found in jumps(is_now) if found not in set(jumps(was))),
            old_chains=tuple(chain for chain in our_chains(is_now) if chain not in our_chains(was)),
        )
        if change != Change(table=table):
            changes.append(change)
    return changes


def first_rules(change: Change, count: int) -> Change:
    """Return the part of a change that makes its chains and jumps with no more than `count` rules."""
    chains = []
    for chain in change.new_chains:
        rules = chain.rules[:count]
        count -= len(rules)
        chains.append(NewChain(chain.name, rules))
    return Change(table=change.table, new_chains=tuple(chains), new_jumps=change.new_jumps)


def free_generation(held: Mapping[Family, Tables]) -> int:
    """Return the lowest generation that no chain bears."""
    taken = {
        generation_of(chain) for tables in held.values() for table in tables.values() for chain in our_chains(table)
    }
    return next(number for number in itertools.count(1) if number not in taken)


def heartbeat_timeout(rules: RuleSet) -> int:
    """Return for how many seconds a heartbeat lasts; SpecError where that is no whole number, which xt_recent wants."""
    for rule in rules.rules():
        if isinstance(rule.action, Beat):
            timeout_s = rule.action.timeout_s
            if timeout_s != int(timeout_s):
                raise SpecError(
                    f"cannot use --heartbeat-timeout {timeout_s:g} with iptables, which counts whole seconds: "
                    f"give {int(timeout_s) + 1}"
                )
            return int(timeout_s)
    return 0


def _by_table(
    rules: RuleSet, about: Sequence[str], family: Family, generation: int
) -> Iterator[tuple[str, list[tuple[NewChain, str]]]]:
    """Yield each table with its new chains, and for each the built-in chain that leads to it."""
    if family not in rules.families:
        return
    timeout_s = heartbeat_timeout(rules)
    for table in TABLE_ORDER:
        chains = [
            (_new_chain(chain, family, generation, timeout_s), PLACES[chain.hook, chain.stage].hook)
            for chain in sorted(rules.chains, key=lambda chain: chain.stage)
            if PLACES[chain.hook, chain.stage].table == table
        ]
        if table == ABOUT.table and family is rules.families[0]:
            comments = tuple(NewRule(("-m", "comment", "--comment", piece), None) for piece in about)
            chains.append((NewChain(chain_name(ABOUT, generation), comments), ABOUT.hook))
        yield table, chains


def _leading(chains: Sequence[tuple[NewChain, str]]) -> Iterator[Jump]:
    """Yield the jumps to the chains, before everything else in the built-in chains that lead to them."""
    positions: Counter[str] = Counter()
    for chain, hook in chains:
        if hook:
            positions[hook] += 1
            yield Jump(hook, positions[hook], jump(chain.name), chain.name)


def _new_chain(chain: Chain, family: Family, generation: int, timeout_s: int) -> NewChain:
    return NewChain(
        chain_name(PLACES[chain.hook, chain.stage], generation),
        tuple(
            NewRule(arguments(entry, rule.id, timeout_s), rule.id)
            for rule in chain.rules
            if rule.match.family in {None, family}
            for entry in expand(rule, family)
        ),
    )
