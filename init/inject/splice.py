"""Changes put into the text itself, where a pod is written in block style, as people write it: no other byte moves.

Lines are found by the numbers that the parser gave, and ends by indentation. That is exact but for oddities (a pod in
flow style, behind an alias, a dash on a line of its own): those return None, and whoever asked checks what came out.
A comment stays above the line that it stood above, and with the block that it is indented with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from meshdns.init.inject.container import Part
from meshdns.init.inject.pod import Change
from meshdns.init.inject.values import text
from meshdns.init.inject.workload import Path
from meshdns.resolver.source.tree import Fields, Items

_KEY: Final = re.compile(r"( *)([\"']?)([\w.-]+)\2:[ \t]*(#.*)?$")
"""A key whose value begins below it."""
_PLAIN: Final = re.compile(r"(?!(?i:true|false|yes|no|on|off|y|n|null)$)(?:--)?[A-Za-z/][\w./:@-]*|\d+(?:m|Mi)")
"""Texts of ours that are texts in every YAML."""
_OTHER_BREAKS: Final = re.compile("\r(?!\n)|[\x85\u2028\u2029]")
"""What ends a line besides, by YAML 1.1, section 4.1.4: the parser counts it."""
MAX_COLUMNS: Final = 100
_NOTHING: Final = re.compile(r"\s*(#|$)")


class _OddError(Exception):
    """The text is written in a way that is not known here."""


def splice(body: str, root: Fields, pods: list[tuple[Path, list[Change]]]) -> str | None:
    """Return `body` with the changes of each pod, given by the path of its spec; None where it cannot be done."""
    if _OTHER_BREAKS.search(body):
        return None
    lines = body.split("\n")
    ending = "\r" if body.count("\r\n") == len(lines) - 1 else ""
    edits = []
    try:
        for path, changes in pods:
            pod = _Pod([line.removesuffix("\r") for line in lines], root, path)
            edits += [edit for change in changes for edit in pod.edits(change)]
    except _OddError:
        return None
    for start, end, new in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        lines[start:end] = [line + ending for line in new]
    return "\n".join(lines)


_Edit = tuple[int, int, list[str]]
"""Lines from the first number up to the second, from 0, give way to new ones."""


class _Pod:
    """One pod's spec in the lines of a document."""

    def __init__(self, lines: list[str], root: Fields, path: Path) -> None:
        spec: Any = root
        for step in path:
            if spec is None:  # an alias
                raise _OddError
            spec = spec[step]
        if not isinstance(spec, Fields):
            raise _OddError
        self._lines = lines
        self._spec = spec
        self._keys = dict(zip(spec, (line - 1 for line in spec.lines), strict=True))
        self._top = root.line_of(path) - 1
        self._indent = self._column("containers")
        self._offset = self._dash("containers", 0) - self._indent

    def edits(self, change: Change) -> Iterator[_Edit]:
        """Yield what a change is in lines."""
        items = self._spec.get(change.field)
        if not isinstance(items, Items):
            yield self._new_list(change)
            return
        key = self._keys[change.field]
        if self._column(change.field) != self._indent:
            raise _OddError
        dash = self._dash(change.field, 0)
        starts = [self._item(change.field, index) for index in range(len(items))]
        end = self._end(key, self._indent, "- " if dash == self._indent else "")
        for index in change.gone:
            following = starts[index + 1] if index + 1 < len(starts) else end
            yield starts[index], self._trimmed(starts[index], following), []
        at = key + 1 if change.in_front else end
        yield at, at, list(self._rendered(change.parts, dash))

    def _new_list(self, change: Change) -> _Edit:
        """Return the edit that adds a list: before the containers and what is said of them, or at the end."""
        if change.field in self._keys:
            raise _OddError  # null, or an alias
        if change.in_front:
            at = self._keys["containers"]
            while at - 1 > self._top and self._lines[at - 1].lstrip().startswith("#"):
                at -= 1
        else:
            at = self._end(self._top, self._indent - 1)
        key = " " * self._indent + change.field + ":"
        return at, at, [key, *self._rendered(change.parts, self._indent + self._offset)]

    def _column(self, key: str) -> int:
        line = self._keys.get(key)
        found = _KEY.match(self._lines[line]) if line is not None else None
        if found is None or found[3] != key:
            raise _OddError
        return len(found[1])

    def _item(self, field: str, index: int) -> int:
        items = self._spec[field]
        if not isinstance(items, Items):
            raise _OddError
        return items.lines[index] - 1

    def _dash(self, field: str, index: int) -> int:
        found = re.match(r"( *)- ", self._lines[self._item(field, index)])
        if found is None:
            raise _OddError
        return len(found[1])

    def _end(self, start: int, indent: int, also: str = "") -> int:
        """Return the line after the block below line `start`: what is indented by more than `indent`, comments too."""
        end = start + 1
        for number in range(start + 1, len(self._lines)):
            line = self._lines[number]
            inside = len(line) - len(line.lstrip(" ")) > indent or (also and line[indent:].startswith(also))
            if line.strip() and inside:
                end = number + 1
            elif not _NOTHING.match(line):
                break
        return end

    def _trimmed(self, start: int, end: int) -> int:
        """Return the end without the comments and empty lines before it: they belong to what follows."""
        while end > start and _NOTHING.match(self._lines[end - 1]):
            end -= 1
        return end

    def _rendered(self, parts: list[Part], dash: int) -> Iterator[str]:
        for part in parts:
            yield from _items(part, dash, self._offset)


def _items(part: Mapping[str, Any], dash: int, offset: int) -> Iterator[str]:
    first, *rest = _block(part, dash + 2, offset)
    yield " " * dash + "- " + first.lstrip()
    yield from rest


def _block(part: Mapping[str, Any], indent: int, offset: int) -> Iterator[str]:
    """Yield the lines of a mapping; lists of texts stand in one line."""
    for key, value in part.items():
        start = " " * indent + key + ":"
        if isinstance(value, Mapping) and value:
            yield start
            yield from _block(value, indent + 2, offset)
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            yield start
            for item in value:
                yield from _items(item, indent + offset, offset)
        elif isinstance(value, list):
            line = f"{start} [{', '.join(map(_scalar, value))}]"
            items = [f"{' ' * (indent + offset)}- {_scalar(item)}" for item in value]
            yield from [line] if len(line) <= MAX_COLUMNS else [start, *items]
        else:
            yield f"{start} {_scalar(value)}"


def _scalar(value: Any) -> str:  # noqa: ANN401 - a plain value
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        return json.dumps(value)
    return text(value) or ""
