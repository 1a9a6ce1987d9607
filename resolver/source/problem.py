"""What is wrong with a manifest, as a value: where it stands, which rule it breaks, and how to mend it.

Reading and judging report through a `Report`; nothing here knows what the rules say (`rules` does).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol

MAX_PROBLEMS_PER_DOCUMENT = 64
"""A document with more faults than this is hopeless, and a log full of them helps nobody."""


class Level(StrEnum):
    """ERROR: the document is refused, as the API server would. WARNING, NOTE: it is served; a note is no fault."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Rule(NamedTuple):
    """A rule that manifests must keep. `id` never changes once published; `name` is for people."""

    id: str
    name: str
    level: Level
    fix: str


class Problem(NamedTuple):
    """One broken rule. `line` counts from 1 (0: the file as a whole); `field` is dotted, such as spec.hosts[0]."""

    file: str
    line: int
    field: str
    rule: str
    level: Level
    reason: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.field}: {self.reason}" if self.field else f"{where}: {self.reason}"


Path = tuple[str | int, ...]
"""The way from a document's root to a field: keys, and positions in lists."""


def dotted(path: Path) -> str:
    """Return `path` as people write it: `("spec", "hosts", 0)` is spec.hosts[0]; keys that hold dots are bracketed."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif "." in step or not step:
            text += f"[{step!r}]"
        else:
            text += f".{step}" if text else step
    return text


class Located(Protocol):
    """A document that knows its lines."""

    def line_of(self, path: Path) -> int:
        """Return the line of the field at `path`, or of the nearest field above it that exists."""


class Report:
    """Collects the problems of one document: the first MAX_PROBLEMS_PER_DOCUMENT, and whether any was an error."""

    __slots__ = ("_document", "_file", "problems", "refused")

    def __init__(self, file: str, document: Located) -> None:
        self._file = file
        self._document = document
        self.problems: list[Problem] = []
        self.refused = False

    def add(self, rule: Rule, path: Path, reason: str) -> None:
        """Note that the field at `path` breaks `rule`."""
        first_error = rule.level is Level.ERROR and not self.refused
        self.refused |= first_error
        if len(self.problems) < MAX_PROBLEMS_PER_DOCUMENT or first_error:
            line = self._document.line_of(path)
            self.problems.append(Problem(self._file, line, dotted(path), rule.id, rule.level, reason, rule.fix))
