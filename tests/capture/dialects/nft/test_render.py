"""The text that nft is given, word for word, for every named configuration. `make golden` writes it anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from capture_cases import CASES
from capturing import spec

from meshdns.capture.dialects.nft.render import Script, render
from meshdns.capture.dialects.observed import Observed, ObservedChain
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Hook, Stage
from meshdns.capture.policy.spec import Family

GOLDEN = Path(__file__).parents[2] / "golden" / "nft"
REWRITE = os.environ.get("MESHDNS_GOLDEN") == "rewrite"


@pytest.mark.parametrize("case", CASES)
def test_text_is_the_golden_one(case: str) -> None:
    """The rules of a configuration change only on purpose."""
    file = GOLDEN / f"{case}.nft"
    text = render(plan(CASES[case])).text
    if REWRITE:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def test_no_golden_file_is_left_over() -> None:
    """Every golden file belongs to a configuration that still exists."""
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)


def test_each_line_is_one_statement() -> None:
    """Old nft wants no clever line breaks: what is on a line is whole."""
    for case in CASES.values():
        for line in render(plan(case), ("YWJj",)).lines:
            assert "\n" not in line.text
            assert line.text.split()[0] in {"add", "flush"}


def test_the_set_of_living_families_is_never_deleted_while_the_table_is_ours() -> None:
    """Replacing one configuration by another neither deletes nor flushes the set."""
    chains = (ObservedChain("in_nat", (Hook.PREROUTING, Stage.TRANSLATE), ()),)
    held = Observed(present=True, chains=chains, alive=frozenset(Family))
    lines = _lines(render(plan(spec()), held=held, seed_s=3))
    assert "delete chain inet meshdns in_nat" in lines
    assert not [line for line in lines if "alive" in line and not line.startswith(("add rule", "add set"))]
    assert not [line for line in lines if line.startswith("delete table")]


def test_a_table_with_something_foreign_is_made_anew_with_the_living_kept_alive() -> None:
    """Where the set must go, the same transaction puts the living families back for one timeout."""
    held = Observed(present=True, alive=frozenset({Family.IPV6}), strangers=("map x",))
    lines = _lines(render(plan(spec()), held=held, seed_s=3))
    assert lines[:3] == ["add table inet meshdns", "delete table inet meshdns", "add table inet meshdns"]
    assert "add element inet meshdns alive { ipv6 timeout 3s }" in lines


def _lines(script: Script) -> list[str]:
    return script.text.splitlines()
