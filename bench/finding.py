"""One line of the result: what was compared, its target, what came out, and whether that meets it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench.figures import Ratio


class Verdict(StrEnum):
    """What a line says about its target."""

    MET = "met"
    MISSED = "missed"
    PRINTED = "-"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `detail` holds absolute figures, which say something about this machine only, or a reason."""

    what: str
    target: str
    measured: str
    verdict: Verdict
    detail: str = ""
    score: float | None = None
    """How far it is from its target: 1 reaches it, 2 is twice as good; None without a target."""


def at_least(what: str, measured: Ratio, limit: float, detail: str = "") -> Finding:
    """Judge a ratio that must reach a limit."""
    return Finding(
        what, f"≥ {limit:g}", str(measured), _verdict(met=measured.median >= limit), detail, measured.median / limit
    )


def at_most(what: str, measured: Ratio, limit: float, detail: str = "") -> Finding:
    """Judge a ratio that must not exceed a limit."""
    return Finding(
        what, f"≤ {limit:g}", str(measured), _verdict(met=measured.median <= limit), detail, limit / measured.median
    )


def within(what: str, measured: float, limit: float, unit: str, detail: str = "") -> Finding:
    """Judge a figure with a unit that must not exceed a limit."""
    score = limit / measured if measured else None
    return Finding(
        what, f"≤ {limit:g} {unit}", f"{measured:.1f} {unit}", _verdict(met=measured <= limit), detail, score
    )


def printed(what: str, measured: str | Ratio, detail: str = "") -> Finding:
    """Show a figure that has no target."""
    return Finding(what, "", str(measured), Verdict.PRINTED, detail)


def not_measured(what: str, reason: str, target: str = "") -> Finding:
    """Say why there is no figure."""
    return Finding(what, target, "", Verdict.NOT_MEASURED, reason)


def _verdict(*, met: bool) -> Verdict:
    return Verdict.MET if met else Verdict.MISSED
