"""Reading, replacing and removing our rules in iptables' tables, by whatever means tables are read and changed.

The kernel takes one table of one family at a time. So a replacement keeps what leads back until all of them are in,
and where one is refused it goes back to exactly what was there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from meshdns.capture.dialects.iptables.change import (
    Change,
    clearance,
    first_rules,
    free_generation,
    installation,
    undoing,
)
from meshdns.capture.dialects.iptables.heartbeat import HEARTBEATS, Heartbeats
from meshdns.capture.dialects.iptables.parse import parse, visible
from meshdns.capture.dialects.iptables.place import MAX_COMMENT_LENGTH, holds_ours, jumps, our_rules
from meshdns.capture.dialects.iptables.render import rule_text
from meshdns.capture.dialects.iptables.save import Tables
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.errors import ApplyError, CaptureError, PreflightError, RollbackError
from meshdns.capture.policy.ruleset import Rule, RuleSet
from meshdns.capture.policy.spec import Family
from meshdns.capture.system.scratch import NoScratchError, in_scratch
from meshdns.capture.system.xtables import heartbeats, ticks


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a change was not made, or not in every table: in the kernel's or a program's words."""

    cause: str
    rule_id: str | None = None
    table: str | None = None
    preflight: bool = False
    """A privilege or a program is missing, rather than that the kernel would not."""

    def __str__(self) -> str:
        what = f"rule {self.rule_id}" if self.rule_id else f"table {self.table}" if self.table else "the rules"
        return f"{what}: {self.cause}"


class Door(Protocol):
    """The means by which tables of the calling thread's network namespace are read and changed."""

    def tables(self, family: Family) -> Tables:
        """Return the tables that exist; creates none. PreflightError where they cannot be read."""

    def carry_out(self, family: Family, changes: Sequence[Change]) -> Refusal | None:
        """Make the changes in order, each as one transaction; ends at the first that is refused."""


class IptablesBackend:
    """A backend of capture, whichever way it has of changing tables."""

    comment_length = MAX_COMMENT_LENGTH

    def __init__(self, name: str, door: Door) -> None:
        self.name = name
        self._door = door

    def read(self) -> Observed:
        """Return what of ours is in the tables; creates nothing."""
        remembered = heartbeats(HEARTBEATS)
        # What time it is counts now: reading the tables may take as long as a heartbeat lasts.
        found = None if remembered is None else Heartbeats(remembered, *ticks())
        return parse(self._tables(), found)

    def visible(self, rules: RuleSet) -> RuleSet:
        """Return `rules` as `read` would give them back."""
        return visible(rules)

    def text(self, rule: Rule) -> str:
        """Return a rule in iptables' words, for people."""
        return rule_text(rule)

    def replace(self, rules: RuleSet, about: Sequence[str], held: Observed, seed_s: float) -> None:  # noqa: ARG002 - the list of heartbeats outlives a replacement, and what is held is needed to the letter
        """Put `rules` in the place of what is held; ApplyError names the rule or table that the kernel refused."""
        before = self._tables()
        generation = free_generation(before)
        planned = {family: installation(rules, about, family, before[family], generation) for family in Family}
        for family, changes in planned.items():
            _check_shown(before[family], [change.table for change in changes])
        for family, changes in planned.items():
            if changes and (refusal := self._carry_out(family, changes)):
                self._undo(before, refusal)
        # All is in force. What is left of the old chains, should one be refused here, is told by the next read.
        self._clear(before, unlinked=True)

    def remove(self) -> None:
        """Remove everything of ours from all tables."""
        held = self._tables()
        for tables in held.values():
            if holds_ours({Family.IPV4: tables}):
                _check_shown(tables, list(tables))
        refusal = self._clear(held)
        if refusal and refusal.preflight:
            raise PreflightError(f"cannot remove {refusal}")
        if refusal:
            raise ApplyError(f"cannot remove {refusal}")

    def _clear(self, held: Mapping[Family, Tables], *, unlinked: bool = False) -> Refusal | None:
        refusals = (
            self._carry_out(family, changes)
            for family, tables in held.items()
            if (changes := clearance(tables, unlinked=unlinked))
        )
        return next((refusal for refusal in refusals if refusal), None)

    def _carry_out(self, family: Family, changes: Sequence[Change]) -> Refusal | None:
        try:
            refusal = self._door.carry_out(family, changes)
            if refusal and refusal.table and not (refusal.rule_id or refusal.preflight):
                change = next(change for change in changes if change.table == refusal.table)
                return replace(refusal, rule_id=in_scratch(lambda: self._culprit(family, change)))
        except NoScratchError:
            pass
        except PreflightError as error:
            return Refusal(str(error), preflight=True)
        return refusal

    def _culprit(self, family: Family, change: Change) -> str | None:
        """Return the rule for which a table is refused as a whole: the last of the fewest that are refused.

        For a scratch namespace; None where the rules are not refused there, or it is not they that are refused.
        """
        rules = [rule for chain in change.new_chains for rule in chain.rules]
        low, high = 0, len(rules)
        if not self._is_refused(family, change, high) or self._is_refused(family, change, low):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._is_refused(family, change, middle) else (middle, high)
        return rules[high - 1].rule_id

    def _is_refused(self, family: Family, change: Change, count: int) -> bool:
        """Return whether the first `count` of the change's rules are refused, in a table that is left empty."""
        refusal = self._door.carry_out(family, [first_rules(change, count)])
        if not refusal:
            self._door.carry_out(family, clearance(self._door.tables(family)))
        return refusal is not None

    def _tables(self) -> dict[Family, Tables]:
        return {family: self._door.tables(family) for family in Family}

    def _undo(self, before: Mapping[Family, Tables], refusal: Refusal) -> None:
        """Go back to what was `before`, and raise the error that tells of the refusal."""
        try:
            now = self._tables()
            for family, tables in now.items():
                changes = undoing(before[family], tables)
                if changes and (again := self._carry_out(family, changes)):
                    raise RollbackError(f"cannot roll back after {refusal}: {again}")
            if _ours(self._tables()) != _ours(before):
                raise RollbackError(f"cannot roll back after {refusal}: the rules are not what they were before")
        except PreflightError as error:
            raise RollbackError(f"cannot roll back after {refusal}: {error}") from error
        error_type: type[CaptureError] = PreflightError if refusal.preflight else ApplyError
        raise error_type(f"cannot load {refusal}: nothing was changed")


def _check_shown(tables: Tables, names: Sequence[str]) -> None:
    """Raise PreflightError where one of the tables cannot be read: what is written there could not be verified."""
    for name in names:
        if name in tables and tables[name].hidden:
            raise PreflightError(
                f"cannot use iptables: its table {name} holds what only nft shows (`nft list table`): use --backend nft"
            )


def _ours(tables: Mapping[Family, Tables]) -> object:
    """Return what of ours is in the tables, without counters, to compare with."""
    return {
        (family, table.name): (
            [(found.chain, found.words) for found in jumps(table)],
            {chain: [rule.words for rule in rules] for chain, rules in our_rules(table).items()},
        )
        for family, found in tables.items()
        for table in found.values()
        if holds_ours({family: {table.name: table}})
    }
