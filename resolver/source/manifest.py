"""Text to mappings that know their lines: the only door to YAML (and JSON, which it reads as YAML).

PyYAML's C parser gives events, and the tree is built here: its own constructors turn `no` into false, keep the last of
two equal keys, expand aliases without end, and crash the process at 50,000 brackets. What the fields mean must not be
put here (`read`). YAML 1.1 as libyaml reads it: https://yaml.org/spec/1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import Any, Final, NamedTuple, Protocol

from yaml import YAMLError
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.reader import ReaderError

from meshdns.resolver.errors import SettingsError
from meshdns.resolver.source import rules
from meshdns.resolver.source.listing import MAX_FILE_BYTES
from meshdns.resolver.source.problem import MAX_PROBLEMS_PER_DOCUMENT, Problem, Rule
from meshdns.resolver.source.tree import Fields, Items, Quoted, Value

MAX_DEPTH: Final = 64
"""Levels of nesting. The deepest field of the kinds that are read stands at level 8."""

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_CORE_TAGS: Final = frozenset(
    "tag:yaml.org,2002:" + name for name in ("str", "int", "float", "bool", "null", "map", "seq")
)
_STRING_TAG: Final = "tag:yaml.org,2002:str"


class Document(NamedTuple):
    """One document that parsed. `problems` are its faults as YAML: any of them refuses it."""

    root: Fields
    problems: tuple[Problem, ...] = ()


class Break(NamedTuple):
    """The file cannot be read from here on; the documents before it stand."""

    problem: Problem


def documents(data: bytes, file: str) -> Iterator[Document | Break]:
    """Yield the documents of `data` but for empty ones; `file` is for messages.

    Never raises: what cannot be read is a `Break`, and then the last thing that is yielded.
    """
    if broken := _unreadable(data, file):
        yield Break(broken)
        return
    try:
        builder = _Builder(data, file)  # reads the first bytes
        while (root := builder.document()) is not None:
            if isinstance(root[0], Fields):
                yield Document(root[0], tuple(builder.problems))
            elif root[0] is not None:
                empty = Fields()
                empty.lines = []
                yield Document(empty, (_fault(rules.NOT_A_MAPPING, file, root[1], "a document must be a mapping"),))
    except YAMLError as error:
        yield Break(_syntax_problem(error, data, file))
    except _TooDeepError as error:
        yield Break(_fault(rules.TOO_DEEP, file, error.line, f"more than {MAX_DEPTH} levels of nesting"))


def _unreadable(data: bytes, file: str) -> Problem | None:
    if len(data) > MAX_FILE_BYTES:
        return _fault(rules.FILE_TOO_BIG, file, 0, f"cannot read more than {MAX_FILE_BYTES >> 20} MiB")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _fault(rules.NOT_UTF8, file, line, f"cannot read byte {data[error.start]:#04x}: not UTF-8")
    return None


def _syntax_problem(error: YAMLError, data: bytes, file: str) -> Problem:
    if isinstance(error, ReaderError):
        line = data.count(b"\n", 0, error.position) + 1
        return _fault(rules.SYNTAX, file, line, f"cannot parse: {error.reason}")
    mark = getattr(error, "problem_mark", None)
    parts = [part for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part]
    # What is missing at the end is missed after the last line break: in a line that no editor shows.
    line = min(mark.line + 1, len(data.splitlines())) if mark else 0
    return _fault(rules.SYNTAX, file, line, f"cannot parse: {' '.join(parts) or 'not YAML'}")


def _fault(rule: Rule, file: str, line: int, reason: str) -> Problem:
    return Problem(file, line, "", rule.id, rule.level, reason, rule.fix)


class _TooDeepError(Exception):
    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


class _Mark(Protocol):
    line: int


class _NodeEvent(Protocol):
    """What the events of scalars, collections and aliases have in common."""

    anchor: str | None
    tag: str | None
    start_mark: _Mark


class _ScalarEvent(_NodeEvent, Protocol):
    value: str
    style: str | None


class _Builder:
    """Builds one document after the other from the parser's events.

    The children of the collection at hand are gathered in two flat lists, values and lines; in a mapping keys and
    values alternate. `_outer` holds the lists of the collections around it.
    """

    def __init__(self, data: bytes, file: str) -> None:
        self._next_event = CParser(data).get_event
        self._file = file
        self._values: list[Any] = []
        self._lines: list[int] = []
        self._outer: list[tuple[list[Any], list[int]]] = []
        self._steps: dict[type, Callable[[Any], None]] = {
            MappingStartEvent: self._open,
            SequenceStartEvent: self._open,
            MappingEndEvent: self._close_mapping,
            SequenceEndEvent: self._close_sequence,
            AliasEvent: self._refuse_alias,
        }
        self.problems: list[Problem] = []

    def document(self) -> tuple[Value, int] | None:
        """Return the next document's root and its line, or None at the end; `problems` then holds what is wrong in it.

        This loop runs once per event and is where loading spends its time: scalars, half of all events, are done in it.
        """
        self.problems = []
        self._values, self._lines = [], []
        next_event: Callable[[], Any] = self._next_event
        while True:
            event = next_event()
            kind = type(event)
            if kind is ScalarEvent:
                value = event.value
                if not event.implicit[0]:
                    value = self._marked(event)
                elif value in _NULLS:
                    value = None
                if event.anchor is not None:
                    self._refuse_anchor(event)
                self._values.append(value)
                self._lines.append(event.start_mark.line + 1)
            elif (step := self._steps.get(kind)) is not None:
                step(event)
            elif kind is DocumentEndEvent:
                return self._values[0], self._lines[0]
            elif kind is StreamEndEvent:
                return None

    def _open(self, event: _NodeEvent) -> None:
        line = event.start_mark.line + 1
        if event.anchor is not None:
            self._refuse_anchor(event)
        if event.tag is not None:
            self._check_tag(event)
        if len(self._outer) >= MAX_DEPTH:
            raise _TooDeepError(line)
        self._lines.append(line)
        self._outer.append((self._values, self._lines))
        self._values, self._lines = [], []

    def _close_sequence(self, _event: object) -> None:
        items = Items(self._values)
        items.lines = self._lines
        self._values, self._lines = self._outer.pop()
        self._values.append(items)

    def _close_mapping(self, _event: object) -> None:
        fields = self._mapping(self._values, self._lines)
        self._values, self._lines = self._outer.pop()
        self._values.append(fields)

    def _refuse_alias(self, event: _NodeEvent) -> None:
        self._note(rules.ALIAS, event.start_mark.line + 1, f"alias *{event.anchor} is not allowed")
        self._values.append(None)
        self._lines.append(event.start_mark.line + 1)

    def _mapping(self, values: list[Any], lines: list[int]) -> Fields:
        keys = values[::2]
        try:
            fields = Fields(zip(keys, values[1::2], strict=True))
        except TypeError:  # a key that is a collection
            return self._mended(values, lines)
        if len(fields) != len(keys) or None in fields:
            return self._mended(values, lines)
        fields.lines = lines[::2]
        return fields

    def _mended(self, values: list[Any], lines: list[int]) -> Fields:
        """Build a mapping whose keys are not all different strings: the first of equal keys stays."""
        fields = Fields()
        fields.lines = []
        for key, value, line in zip(values[::2], values[1::2], lines[::2], strict=True):
            if not isinstance(key, str):
                self._note(rules.KEY_NOT_TEXT, line, "a key must be a string")
            elif key in fields:
                self._note(rules.DUPLICATE_KEY, line, f"key {str(key)!r} is given twice")
            else:
                fields[key] = value
                fields.lines.append(line)
        return fields

    def _marked(self, event: _ScalarEvent) -> str:
        """Return the text of a scalar that was quoted or tagged."""
        if event.tag is not None:
            self._check_tag(event)
        return Quoted(event.value) if event.style or event.tag == _STRING_TAG else str(event.value)

    def _check_tag(self, event: _NodeEvent) -> None:
        if event.tag not in _CORE_TAGS:
            self._note(rules.TAG, event.start_mark.line + 1, f"tag {event.tag!r} is not allowed")

    def _refuse_anchor(self, event: _NodeEvent) -> None:
        self._note(rules.ALIAS, event.start_mark.line + 1, f"anchor &{event.anchor} is not allowed")

    def _note(self, rule: Rule, line: int, reason: str) -> None:
        if len(self.problems) < MAX_PROBLEMS_PER_DOCUMENT:
            self.problems.append(_fault(rule, self._file, line, reason))


class ManifestError(SettingsError):
    """A settings file that cannot be understood; the text starts with `file:line:`."""


class SettingsMapping(dict[str, "str | list[str]"]):
    """The keys of a settings file with their values as text; `lines` gives each key's line, from 1."""

    __slots__ = ("lines",)
    lines: dict[str, int]


def read_settings(path: FilePath) -> SettingsMapping:
    """Read one mapping of names to texts or lists of texts, such as a `--config` file; an empty file is an empty one.

    Raises ManifestError for a file that cannot be read, does not parse, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}:1: cannot read: {error.strerror}") from error
    settings = SettingsMapping()
    settings.lines = {}
    found = list(documents(data, str(path)))
    for document in found:
        problems = (document.problem,) if isinstance(document, Break) else document.problems
        for problem in problems:
            raise ManifestError(f"{path}:{max(problem.line, 1)}: {problem.reason}")
    if len(found) > 1:
        raise ManifestError(f"{path}:{_second_line(found)}: only one document is allowed")
    for document in found:
        if isinstance(document, Document):
            _add_settings(settings, document.root, path)
    return settings


def _second_line(found: list[Document | Break]) -> int:
    second = found[1]
    return second.root.line_of(()) if isinstance(second, Document) else second.problem.line


def _add_settings(settings: SettingsMapping, root: Fields, path: FilePath) -> None:
    for (key, value), line in zip(root.items(), root.lines, strict=True):
        settings.lines[str(key)] = line
        settings[str(key)] = _setting(value, f"{path}:{line}: {key}")


def _setting(value: Value, where: str) -> str | list[str]:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Items):
        if not value:
            raise ManifestError(f"{where}: the list is empty: leave the key out to get the default")
        texts = [str(item) for item in value if isinstance(item, str)]
        if len(texts) == len(value):
            return texts
        raise ManifestError(f"{where}: every item must be a plain value")
    if value is None:
        raise ManifestError(f"{where}: has no value: leave the key out to get the default")
    raise ManifestError(f"{where}: must be a value or a list, not a mapping")
