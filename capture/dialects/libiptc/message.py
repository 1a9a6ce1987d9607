"""What the backend and its child processes say to each other: JSON, one question and one answer for each child."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from meshdns.capture.dialects.iptables.change import Change, NewChain, NewRule
from meshdns.capture.dialects.iptables.place import Jump
from meshdns.capture.dialects.iptables.save import SavedRule, SavedTable
from meshdns.capture.policy.spec import Family


@dataclass(frozen=True, slots=True)
class Question:
    """Make `changes`, then tell what is in `tables`."""

    family: Family
    tables: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The tables asked for; `refused` where something went wrong. `unusable`: before the kernel was asked at all."""

    tables: tuple[SavedTable, ...] = ()
    refused: str | None = None
    rule_id: str | None = None
    table: str | None = None
    unusable: bool = False


def write_question(question: Question) -> str:
    """Return the question as text."""
    changes = [asdict(change) for change in question.changes]
    return json.dumps({"family": question.family.value, "tables": question.tables, "changes": changes})


def read_question(text: str) -> Question:
    """Return the question that `write_question` wrote."""
    document = json.loads(text)
    changes = tuple(_change(change) for change in document["changes"])
    return Question(Family(document["family"]), tuple(document["tables"]), changes)


def write_answer(answer: Answer) -> str:
    """Return the answer as text."""
    return json.dumps(asdict(answer))


def read_answer(text: str) -> Answer:
    """Return the answer that `write_answer` wrote; ValueError, KeyError or TypeError for anything else."""
    document = json.loads(text)
    tables = tuple(
        SavedTable(table["name"], tuple(table["chains"]), tuple(_rule(rule) for rule in table["rules"]))
        for table in document.pop("tables")
    )
    return Answer(tables, **document)


def _rule(rule: dict[str, Any]) -> SavedRule:
    return SavedRule(rule["chain"], tuple(rule["words"]), rule["packets"], rule["bytes"])


def _change(change: dict[str, Any]) -> Change:
    return Change(
        table=change["table"],
        new_chains=tuple(
            NewChain(chain["name"], tuple(NewRule(tuple(rule["words"]), rule["rule_id"]) for rule in chain["rules"]))
            for chain in change["new_chains"]
        ),
        new_jumps=_jumps(change["new_jumps"]),
        old_jumps=_jumps(change["old_jumps"]),
        old_chains=tuple(change["old_chains"]),
    )


def _jumps(jumps: Sequence[dict[str, Any]]) -> tuple[Jump, ...]:
    return tuple(Jump(jump["chain"], jump["position"], tuple(jump["words"]), jump["target"]) for jump in jumps)
