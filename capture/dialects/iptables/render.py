"""Changes -> text for `iptables-restore --noflush`: one transaction for each table (iptables-restore(8)).

Every line is one command, and a line that comes from a rule knows the rule's id, so that an error that names a line can
be told in our words. Values are printed from numbers, addresses and checked names, never pasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from meshdns.capture.dialects.iptables.arguments import arguments
from meshdns.capture.dialects.iptables.change import Change, Words, installation
from meshdns.capture.dialects.iptables.entry import expand
from meshdns.capture.dialects.iptables.save import line_of
from meshdns.capture.policy.ruleset import Beat, Rule, RuleSet
from meshdns.capture.policy.spec import Family

ONLY: Final = {Family.IPV4: "-4", Family.IPV6: "-6"}
"""Before a rule's other words: the program of the other family passes it over."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `rule_id` where it stands for a rule of ours."""

    text: str
    table: str
    rule_id: str | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """Lines that iptables-restore carries out table by table."""

    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """Return what `iptables-restore --noflush` reads."""
        return "".join(f"{line.text}\n" for line in self.lines)


def render(changes: Iterable[Change]) -> Script:
    """Return the script for the changes of one family; ValueError for words that no line can hold."""
    return Script(tuple(line for change in changes for line in _table(change.table, _commands(change))))


def render_plan(rules: RuleSet, about: Sequence[str] = ()) -> str:
    """Return the text that installs `rules` where nothing of ours is, for the programs of both families."""
    changes = {family: installation(rules, about, family, {}, 1) for family in rules.families}
    tables = dict.fromkeys(change.table for family in changes.values() for change in family)
    lines: list[Line] = []
    for table in tables:
        commands: list[Line] = []
        for family, found in changes.items():
            commands += (
                line for change in found if change.table == table for line in _commands(change, (ONLY[family],))
            )
        # A line for a chain says nothing of its family, so both have the chains of both.
        chains = dict.fromkeys(line for line in commands if line.text.startswith(":"))
        lines += _table(table, [*chains, *(line for line in commands if line not in chains)])
    return Script(tuple(lines)).text


def rule_text(rule: Rule) -> str:
    """Return the rule as iptables would list it, for people: without chain and comment, in one family.

    How long a heartbeat lasts stands behind it: iptables asks that where it looks, and every rule that looks says so.
    """
    comment = ("-m", "comment", "--comment", rule.id)
    entries = expand(rule, rule.match.family or Family.IPV4)
    text = " / ".join(line_of(_without(arguments(entry, rule.id, None), comment)) for entry in entries)
    return f"{text} (for {rule.action.timeout_s:g} s)" if isinstance(rule.action, Beat) else text


def _without(words: Words, part: Words) -> Words:
    start = next(i for i in range(len(words)) if words[i : i + len(part)] == part)
    return words[:start] + words[start + len(part) :]


def _table(table: str, commands: Iterable[Line]) -> Iterator[Line]:
    yield Line(f"*{table}", table)
    yield from commands
    yield Line("COMMIT", table)


def _commands(change: Change, only: Words = ()) -> Iterator[Line]:
    """Yield the change's commands; jumps go before they come, so that positions are those without ours."""
    for chain in change.new_chains:
        yield Line(f":{chain.name} - [0:0]", change.table)
    for chain in change.new_chains:
        for rule in chain.rules:
            yield Line(line_of(("-A", chain.name, *only, *rule.words)), change.table, rule.rule_id)
    for found in change.old_jumps:
        yield Line(line_of(("-D", found.chain, *only, *found.words)), change.table)
    for found in change.new_jumps:
        yield Line(line_of(("-I", found.chain, str(found.position), *only, *found.words)), change.table)
    for command in ("-F", "-X"):
        for name in change.old_chains:
            yield Line(line_of((command, name)), change.table)
