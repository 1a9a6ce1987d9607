"""What rounds of measurements come to: percentiles, and ratios whose median is taken over rounds.

Ratios are taken inside a round, where both sides met the same noise, and only then is their median taken. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median over rounds, and how far the rounds lay apart."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return ours / theirs, round by round; both hold one positive figure per round."""
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"cannot compare {len(ours)} rounds with {len(theirs)}")
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of them do not exceed (nearest rank)."""
    if not values:
        raise ValueError("cannot take a percentile of nothing")
    if not 0 < percent <= 100:
        raise ValueError(f"cannot take percentile {percent}: it must be above 0 and at most 100")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]
