"""A rule's words become python-iptables' parameters and come back; the questions to a child come over whole."""

from __future__ import annotations

import os

import pytest
from capture_cases import CASES
from namespaces import namespace

from meshdns.capture.dialects.iptables.change import Change, installation
from meshdns.capture.dialects.iptables.place import Jump
from meshdns.capture.dialects.iptables.save import SavedRule, SavedTable
from meshdns.capture.dialects.libiptc.backend import LibiptcBackend
from meshdns.capture.dialects.libiptc.message import (
    Answer,
    Question,
    read_answer,
    read_question,
    write_answer,
    write_question,
)
from meshdns.capture.dialects.libiptc.parameters import to_parameters, to_words
from meshdns.capture.dialects.observed import NOTHING
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.spec import Family


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", Family)
def test_words_come_back(case: str, family: Family) -> None:
    """Every rule of every named configuration is said in parameters without loss."""
    for change in installation(plan(CASES[case]), ("YWJj",), family, {}, 1):
        for chain in change.new_chains:
            for rule in chain.rules:
                assert to_words(to_parameters(rule.words)) == rule.words


def test_questions_and_answers_come_over_whole() -> None:
    """What is written to a child, and what it writes, is read as it was."""
    changes = tuple(installation(plan(CASES["everything"]), ("YWJj",), Family.IPV6, {}, 1))
    leaving = Change(table="nat", old_jumps=(Jump("OUTPUT", 2, ("-j", "X"), "X"),), old_chains=("X",))
    question = Question(Family.IPV6, ("raw", "nat"), (*changes, leaving))
    assert read_question(write_question(question)) == question
    table = SavedTable("nat", ("OUTPUT", "X"), (SavedRule("X", ("-j", "RETURN"), 1, 2),))
    answer = Answer((table,), refused="no", rule_id="x", table="nat", unusable=True)
    assert read_answer(write_answer(answer)) == answer


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without python-iptables: exit 3, how to get it, and which other backends there are."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with (
        namespace() as pod,
        pytest.raises(PreflightError, match=r"pip install 'meshdns\[libiptc\]': use --backend nft"),
    ):
        pod.call(lambda: LibiptcBackend().replace(plan(CASES["defaults"]), (), NOTHING, 0))
