"""Where each chain of ours stands in iptables, what it is called, and what of a saved table is ours.

A chain's name ends in its generation: a new generation is built beside the old one, and one exchange of the jump from
the built-in chain puts it in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from meshdns.capture.dialects.iptables.save import SavedRule, SavedTable, Tables
from meshdns.capture.policy.ruleset import Hook, Stage
from meshdns.capture.policy.spec import Family

PREFIX: Final = "MESHDNS_"
MAX_COMMENT_LENGTH: Final = 255
"""XT_MAX_COMMENT_LEN in linux/netfilter/xt_comment.h, less the closing zero byte."""
JUMP_ID: Final = "meshdns"
"""The comment of the jump from a built-in chain."""

TABLE_ORDER: Final = ("raw", "mangle", "security", "nat", "filter")
"""The switch in `security` opens only when the zones stand; what refuses comes last."""


@dataclass(frozen=True, slots=True)
class Place:
    """A table, the chain of it that netfilter calls, and our chain's name without prefix and generation."""

    table: str
    hook: str
    name: str


PLACES: Final[Mapping[tuple[Hook, Stage], Place]] = {
    (Hook.OUTPUT, Stage.ZONE): Place("raw", "OUTPUT", "ZONE"),
    (Hook.OUTPUT, Stage.MARK): Place("mangle", "OUTPUT", "BEAT_OUT"),
    (Hook.OUTPUT, Stage.DIVERT): Place("mangle", "OUTPUT", "OUT_DIVERT"),
    (Hook.PREROUTING, Stage.DIVERT): Place("mangle", "PREROUTING", "IN_DIVERT"),
    (Hook.INPUT, Stage.COUNT): Place("security", "INPUT", "BEAT_IN"),  # after the filters: proves the way in
    (Hook.OUTPUT, Stage.TRANSLATE): Place("nat", "OUTPUT", "NAT"),
    (Hook.PREROUTING, Stage.TRANSLATE): Place("nat", "PREROUTING", "IN_NAT"),
    (Hook.OUTPUT, Stage.REFUSE): Place("filter", "OUTPUT", "REST"),
}
"""The place of each hook and stage; our jumps in a built-in chain, one or two, are its first rules."""
ABOUT: Final = Place("mangle", "", "ABOUT")
"""Nothing jumps there: its rules are the comments that record the installation."""

_BY_NAME: Final = {(place.table, place.name): key for key, place in PLACES.items()}
_CHAIN: Final = re.compile(rf"{PREFIX}([A-Z_]+)_([1-9][0-9]{{0,4}})")


def chain_name(place: Place, generation: int) -> str:
    """Return what our chain for a place is called."""
    return f"{PREFIX}{place.name}_{generation}"


def place_of(table: str, chain: str) -> tuple[Hook, Stage] | None:
    """Return the hook and stage that a chain of this name is for, None where we have no such chain."""
    found = _CHAIN.fullmatch(chain)
    return _BY_NAME.get((table, found[1])) if found else None


def generation_of(chain: str) -> int | None:
    """Return the generation that a chain's name ends in."""
    found = _CHAIN.fullmatch(chain)
    return int(found[2]) if found else None


def is_about(table: str, chain: str) -> bool:
    """Return whether a chain of this name holds the record."""
    found = _CHAIN.fullmatch(chain)
    return found is not None and (table, found[1]) == (ABOUT.table, ABOUT.name)


def jump(chain: str) -> tuple[str, ...]:
    """Return the words of the rule by which a built-in chain leads to one of ours."""
    return ("-m", "comment", "--comment", JUMP_ID, "-j", chain)


@dataclass(frozen=True, slots=True)
class Jump:
    """A rule outside our chains that leads into one of them; `position` counts from 1 in its chain."""

    chain: str
    position: int
    words: tuple[str, ...]
    target: str


def our_chains(table: SavedTable) -> tuple[str, ...]:
    """Return the chains of a table that bear our prefix."""
    return tuple(chain for chain in table.chains if chain.startswith(PREFIX))


def our_rules(table: SavedTable) -> dict[str, list[SavedRule]]:
    """Return the rules in our chains, by chain."""
    found: dict[str, list[SavedRule]] = {chain: [] for chain in our_chains(table)}
    for rule in table.rules:
        if rule.chain in found:
            found[rule.chain].append(rule)
    return found


def jumps(table: SavedTable) -> Iterator[Jump]:
    """Yield what leads into our chains from outside them, whoever wrote it."""
    ours = our_chains(table)
    positions: dict[str, int] = {}
    for rule in table.rules:
        positions[rule.chain] = positions.get(rule.chain, 0) + 1
        if rule.chain not in ours:
            for option, target in zip(rule.words, rule.words[1:], strict=False):
                if option in {"-j", "-g"} and target in ours:
                    yield Jump(rule.chain, positions[rule.chain], rule.words, target)


def holds_ours(tables: Mapping[Family, Tables]) -> bool:
    """Return whether anything of ours stands in any table."""
    return any(our_chains(table) for family in tables.values() for table in family.values())
