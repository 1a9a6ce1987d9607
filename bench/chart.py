"""The chart of the results: how near each figure is to its target. Door: leather."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import leather
from bench.finding import Verdict
from bench.report import Section

COLOURS: Final = {Verdict.MET: "#2a7f62", Verdict.MISSED: "#c8553d"}
WIDTH_PX: Final = 1100
BAR_PX: Final = 22
MARGIN_PX: Final = 160
MOST: Final = 3.0
"""Longer bars end here: twice or thirty times as good as asked for is the same news."""


def chart(sections: Sequence[Section]) -> str:
    """Return an SVG with a bar for each figure that has a target: 1 reaches it, more is better."""
    bars = [
        (
            min(one.score, MOST),
            f"{section.name}: {one.what}: {one.measured.partition(' (')[0]}, target {one.target}",
            one,
        )
        for section in sections
        for one in section.findings
        if one.score is not None
    ]
    drawn = leather.Chart("Measured against target: 1 and more meets it")
    drawn.add_bars(bars, fill_color=lambda datum: COLOURS[datum.row[2].verdict])
    drawn.add_x_scale(0, MOST)
    svg: str = drawn.to_svg(width=WIDTH_PX, height=MARGIN_PX + BAR_PX * len(bars))
    return svg
