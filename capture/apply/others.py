"""What other backends hold beside the rules that a watch follows: it gives way, because packets meet both.

A saved ruleset brings it back that is loaded again, or an `install` left it that was killed between its last two steps.
Of two installs the later one counts. What another version of meshdns planned is left alone (docs/adr/0018).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshdns.capture.apply.backend import BACKENDS, Backend
from meshdns.capture.apply.choice import held_elsewhere, remove_elsewhere
from meshdns.capture.apply.install import Installation, inspect
from meshdns.capture.apply.record import Record
from meshdns.capture.errors import PreflightError

logger = logging.getLogger("meshdns.capture")

UNASKED_S: Final = 10.0
"""How often other backends are read though the kernel told of no change: most of them cost programs."""


@dataclass(slots=True)
class Others:
    """What is known of other backends, and what was said of them."""

    _due: float = 0.0
    _said: str = ""

    def are_due(self, by: Sequence[str]) -> bool:
        """Return whether it is time to read them; `by`: who may have changed them."""
        return bool(by) or time.monotonic() >= self._due

    def remove(self, backend: Backend, followed: Record, by: str) -> tuple[str, Installation] | None:
        """Remove what they hold beside `backend`; or return a later install than the one followed, with its backend.

        ApplyError: the kernel refused it.
        """
        try:
            found = {name: inspect(BACKENDS[name](), held) for name, held in held_elsewhere(backend).items()}
        except PreflightError as error:
            self._say(str(error))
        else:
            ours = self._of_this_version(found, backend)
            for name, other in ours.items():
                if other.record and (other.record.installed_at or 0) > (followed.installed_at or 0):
                    return name, other
            self._remove(ours, backend, by)
        self._due = time.monotonic() + UNASKED_S
        return None

    def _of_this_version(self, found: Mapping[str, Installation], backend: Backend) -> dict[str, Installation]:
        """Return what is ours to remove; says once what is not."""
        theirs = [
            f"{name} holds rules of meshdns {other.planned_by}" for name, other in found.items() if other.planned_by
        ]
        if theirs:
            fix = "`meshdns capture install`, with the options that are to stay, removes them"
            self._say(f"{' and '.join(theirs)} beside those of {backend.name}: leaving them alone: {fix}")
        elif not found:
            self._said = ""
        return {name: other for name, other in found.items() if not other.planned_by}

    def _remove(self, ours: Mapping[str, Installation], backend: Backend, by: str) -> None:
        if ours:
            self._say(f"also installed with {' and '.join(ours)}{by}: removing it")
            remove_elsewhere(backend, {name: other.held for name, other in ours.items()})
            self._said = ""

    def _say(self, what: str) -> None:
        """Log it, once for as long as it is the same."""
        if what != self._said:
            logger.warning("%s", what)
        self._said = what
