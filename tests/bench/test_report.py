"""Verdicts, the printed table and the page of results."""

from __future__ import annotations

import pytest
from bench.figures import Ratio
from bench.finding import Finding, Verdict, at_least, at_most, not_measured, printed, within
from bench.report import Section, lines, markdown, summary

ONE = Ratio(1.0, 0.9, 1.1)

VERDICTS = {
    "reached": (at_least("x", ONE, 1.0), Verdict.MET),
    "not reached": (at_least("x", ONE, 1.01), Verdict.MISSED),
    "not exceeded": (at_most("x", ONE, 1.0), Verdict.MET),
    "exceeded": (at_most("x", ONE, 0.99), Verdict.MISSED),
    "within": (within("x", 35.0, 35, "MB"), Verdict.MET),
    "without": (within("x", 35.1, 35, "MB"), Verdict.MISSED),
    "no target": (printed("x", ONE), Verdict.PRINTED),
    "no figure": (not_measured("x", "dnsmasq is not installed"), Verdict.NOT_MEASURED),
}


@pytest.mark.parametrize(("finding", "verdict"), VERDICTS.values(), ids=VERDICTS)
def test_verdict(finding: Finding, verdict: Verdict) -> None:
    """The median decides, and a target that is just reached is met."""
    assert finding.verdict is verdict


SECTION = Section(
    "local",
    "answers from our own names",
    (
        at_least("against dnsmasq", Ratio(1.2, 1.1, 1.3), 1.0, "72,000/s against 60,000/s"),
        at_most("p99 | tail", Ratio(2.0, 1.0, 3.0), 1.5),
        not_measured("against CoreDNS", "CoreDNS is not installed"),
    ),
)


def test_lines_are_aligned() -> None:
    """Each finding is a line in columns; its absolute figures stand below it."""
    assert list(lines(SECTION)) == [
        "local: answers from our own names",
        "  met            1.20 (1.10-1.30)  ≥ 1       against dnsmasq",
        "                                             72,000/s against 60,000/s",
        "  missed         2.00 (1.00-3.00)  ≤ 1.5     p99 | tail",
        "  not measured                               against CoreDNS",
        "                                             CoreDNS is not installed",
    ]


def test_the_summary_names_what_was_missed() -> None:
    """Every verdict is counted; a target that was missed is named with what was measured."""
    assert summary([SECTION]) == "1 met, 1 missed, 1 not measured\n  missed: local: p99 | tail: 2.00 (1.00-3.00)"


def test_the_page_is_a_table_for_each_row() -> None:
    """A bar in a text does not end its cell, and the machine and versions are told."""
    page = markdown([SECTION], {"kernel": "6.1"}, {"NSD": "4.6.1"}, "5 rounds.")
    assert "| p99 \\| tail | ≤ 1.5 | 2.00 (1.00-3.00) | missed |  |" in page
    assert "- kernel: 6.1\n- versions: NSD 4.6.1\n" in page
    assert page.count("|---|---|---|---|---|") == 1
