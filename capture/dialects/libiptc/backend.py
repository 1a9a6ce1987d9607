"""The legacy tables through python-iptables, without the binaries: for those who ask for it (extra meshdns[libiptc]).

The library misreads options where the iptables beside it is newer than it knows. So no rule set touches a namespace
before it has been written to a scratch namespace and read back from there the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from meshdns.capture.dialects.iptables.change import Change
from meshdns.capture.dialects.iptables.save import Tables
from meshdns.capture.dialects.iptables.transaction import IptablesBackend, Refusal
from meshdns.capture.dialects.libiptc.message import Answer, Question, read_answer, write_question
from meshdns.capture.dialects.observed import NOTHING, Observed
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.ruleset import RuleSet
from meshdns.capture.policy.spec import Family
from meshdns.capture.system.runner import run
from meshdns.capture.system.scratch import NoScratchError, in_scratch
from meshdns.capture.system.xtables import legacy_tables, missing_capabilities

CHILD: Final = "meshdns.capture.dialects.libiptc.child"
OTHERS: Final = "use --backend nft, iptables-nft or iptables-legacy"


class LibiptcBackend(IptablesBackend):
    """Reads and replaces our chains in the legacy tables of the namespace that the calling thread is in."""

    def __init__(self) -> None:
        super().__init__("libiptc", Children())

    def replace(self, rules: RuleSet, about: Sequence[str], held: Observed, seed_s: float) -> None:
        """Put `rules` in the place of what is held, once they have proved themselves in a scratch namespace."""
        try:
            in_scratch(lambda: self._prove(rules, about))
        except NoScratchError as error:
            raise PreflightError(f"cannot use libiptc untried: {error}: {OTHERS}") from error
        super().replace(rules, about, held, seed_s)

    def _prove(self, rules: RuleSet, about: Sequence[str]) -> None:
        super().replace(rules, about, NOTHING, 0)
        held = self.read()
        wanted = {(chain.hook, chain.stage): chain.rules for chain in self.visible(rules).chains}
        found = {chain.place: tuple(rule.rule for rule in chain.rules) for chain in held.chains}
        if held.strangers or held.about != tuple(about) or found != wanted:
            rules_read = {rule for chain in found.values() for rule in chain}
            misread = next((rule.id for chain in wanted.values() for rule in chain if rule not in rules_read), "")
            raise PreflightError(
                f"cannot use libiptc: python-iptables reads {misread or 'the rules'} back otherwise than it wrote it, "
                f"perhaps because iptables is newer than it knows: {OTHERS}"
            )


class Children:
    """The door through child processes, one for each question and family."""

    def tables(self, family: Family) -> Tables:
        """Return the tables that exist; creates none."""
        names = legacy_tables(family)
        if not names:
            return {}
        answer = _ask(Question(family, tables=tuple(sorted(names))))
        if answer.refused:
            raise PreflightError(f"cannot read the rules with libiptc: {_explained(answer)}")
        return {table.name: table for table in answer.tables}

    def carry_out(self, family: Family, changes: Sequence[Change]) -> Refusal | None:
        """Make the changes in one child."""
        answer = _ask(Question(family, changes=tuple(changes)))
        if answer.refused is None:
            return None
        missing = missing_capabilities()
        if missing:
            return Refusal(f"{' and '.join(missing)} is missing: run as root or grant it", preflight=True)
        return Refusal(_explained(answer), answer.rule_id, answer.table, preflight=answer.unusable)


def _explained(answer: Answer) -> str:
    return f"{answer.refused}: {OTHERS}" if answer.unusable else str(answer.refused)


def _ask(question: Question) -> Answer:
    # -P: nothing that lies in the current directory is imported by root.
    done = run([sys.executable, "-P", "-m", CHILD], write_question(question))
    try:
        return read_answer(done.output)
    except (ValueError, KeyError, TypeError):
        words = " ".join(done.errors.split()[-40:]) or f"exit code {done.exit_code}"
        return Answer(refused=f"python-iptables ended without an answer: {words}", unusable=True)
