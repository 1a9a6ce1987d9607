"""Ratios and percentiles."""

from __future__ import annotations

import pytest
from bench.figures import percentile, ratio
from hypothesis import given
from hypothesis import strategies as st

POSITIVE = st.floats(min_value=1e-6, max_value=1e6)


def test_a_ratio_is_taken_inside_each_round() -> None:
    """Noise that both sides of a round met does not show, even if it is tenfold."""
    assert ratio([10, 1, 100], [5, 0.5, 50]).median == 2


def test_one_bad_round_does_not_move_the_median() -> None:
    """The median of the rounds is the figure; the worst round stands beside it."""
    found = ratio([1, 1, 1, 1, 100], [1, 1, 1, 1, 1])
    assert (found.median, found.least, found.most) == (1, 1, 100)
    assert str(found) == "1.00 (1.00-100.00)"


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1))
def test_a_ratio_lies_between_its_rounds(rounds: list[tuple[float, float]]) -> None:
    """The median is never outside of what was measured."""
    found = ratio(*map(list, zip(*rounds, strict=True)))
    assert found.least <= found.median <= found.most


@pytest.mark.parametrize("rounds", [([], []), ([1.0], [1.0, 2.0])], ids=["none", "not as many"])
def test_rounds_without_a_partner_are_refused(rounds: tuple[list[float], list[float]]) -> None:
    """Every figure has one of the same round to be compared with."""
    with pytest.raises(ValueError, match="cannot compare"):
        ratio(*rounds)


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (99, 99), (99.9, 100), (100, 100), (1, 1), (0.1, 1)], ids=str
)
def test_a_percentile_is_a_measured_value(percent: float, expected: float) -> None:
    """It is the smallest one that so many per cent do not exceed (nearest rank)."""
    assert percentile([*range(100, 0, -1)], percent) == expected


@given(st.lists(POSITIVE, min_size=1), st.floats(min_value=0.1, max_value=100))
def test_as_many_as_promised_are_not_above_a_percentile(values: list[float], percent: float) -> None:
    """At least `percent` of the values do not exceed it, and it is one of them."""
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) / len(values) * 100 >= percent * (1 - 1e-9)


@pytest.mark.parametrize("percent", [0, -1, 100.5])
def test_percentiles_that_do_not_exist_are_refused(percent: float) -> None:
    """Neither nothing nor more than everything is a percentile."""
    with pytest.raises(ValueError, match="cannot take percentile"):
        percentile([1.0], percent)
