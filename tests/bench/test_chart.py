"""The chart of the results."""

from __future__ import annotations

from bench.chart import chart
from bench.figures import Ratio
from bench.finding import at_least, at_most, not_measured, printed, within
from bench.report import Section

RATIO = Ratio(1.5, 1.4, 1.6)


def test_every_figure_with_a_target_has_its_bar() -> None:
    """A bar says how far a figure is from its target, better to the right; figures without one have no bar."""
    found = (at_least("more", RATIO, 1.0), at_most("less", RATIO, 1.0), within("size", 30.0, 60, "MB"))
    others = (printed("shown", RATIO), not_measured("lost", "no peer"))
    drawn = chart([Section("local", "answers", found), Section("memory", "size", others)])
    assert [one.score for one in (*found, *others)] == [1.5, 1 / 1.5, 2.0, None, None]
    for text in ("local: more: 1.50, target ≥ 1", "local: less: 1.50, target ≤ 1", "memory"):
        assert (text in drawn) is (text != "memory")
    assert drawn.count("#2a7f62") == 2
    assert drawn.count("#c8553d") == 1
