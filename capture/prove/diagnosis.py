"""What a check of `doctor` says: how bad it is, the cause, and what to do about it. Values only."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.prove.facts import Facts


class Level(enum.Enum):
    """How bad a finding is: an error keeps capture from working, a warning will surprise."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a check found: the cause, and what to do about it."""

    level: Level
    cause: str
    fix: str


Check = Callable[[Facts, CaptureSpec], Iterator[Diagnosis]]


def error(cause: str, fix: str) -> Diagnosis:
    """Return what keeps capture from working."""
    return Diagnosis(Level.ERROR, cause, fix)


def warning(cause: str, fix: str) -> Diagnosis:
    """Return what will surprise."""
    return Diagnosis(Level.WARNING, cause, fix)
