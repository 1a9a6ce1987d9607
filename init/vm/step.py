"""What a step of an onboarding is: something that is made so, looked at, and taken back by what was noted before.

A step's note holds what was there before it, and is written to the manifest before anything is changed. `look` and
`undo` work from the note alone, so that a machine can be examined and taken back whatever version and options set it
up.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from meshdns.init.errors import InitError

Note = Mapping[str, Any]
"""What a step must remember, as JSON can hold it."""


class Standing(enum.Enum):
    """How what a step made stands now."""

    DONE = "done"
    MISSING = "missing"
    EDITED = "edited"
    """Somebody has changed it since, as they may; it is kept."""
    UNSEEN = "unseen"
    """It is not ours to see."""


@dataclass(frozen=True, slots=True)
class Look:
    """The standing of a step, and what is worth knowing of it besides."""

    standing: Standing
    detail: str = ""


class Step(Protocol):
    """One thing on the machine: `kind` and `at` say which, the rest how."""

    kind: ClassVar[str]
    verbs: ClassVar[tuple[str, str, str, str]]
    """To do it, done; to undo it, undone: `create`, `created`, `remove`, `removed`."""

    @property
    def at(self) -> str:
        """A path, or the name of a unit or account."""

    def stands(self, note: Note) -> bool:
        """Return whether it is as this step wants it, so that there is nothing to do."""

    def prepare(self, note: Note | None) -> Note:
        """Return the note to write before `do`; `note` is that of an earlier run. Changes nothing."""

    def do(self, note: Note) -> Note:
        """Make it so, whatever a killed run has left; returns the note to keep. StepError where it cannot be done."""

    @classmethod
    def look(cls, at: str, note: Note) -> Look:
        """Return how it stands. Changes nothing."""

    @classmethod
    def undo(cls, at: str, note: Note) -> str:
        """Bring back what was before, there or not; returns what was kept and why, empty for nothing. StepError."""


class StepError(InitError):
    """A step cannot be done or taken back: its cause, as a phrase. The walk says which step, and what is left."""

    exit_code = 3

    def __init__(self, cause: str, exit_code: int = 3) -> None:
        super().__init__(cause)
        self.code = exit_code
