"""Door: ruamel.yaml. One document's text in, the same out with its comments, order and quotes (docs/adr/0011).

Scalars stay the text that stood there: 0644, yes and 2001-12-14 are printed as they were written, and nobody has to
know which YAML the reader of the result speaks. JSON is read and printed by Python's own library. Which texts are given
here is decided elsewhere: at most 64 levels deep, known to be a mapping.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from meshdns.init.inject.values import text

_NO_LINE_BREAKS: Final = 2**30
"""Columns after which a long scalar would be broken."""
_NO_TEXT: Final = re.compile(r"|[-+.]?[0-9][-+.:_0-9a-fox]*|true|false|yes|no|on|off|y|n|null|~", re.IGNORECASE)
"""What YAML 1.1 may take for something else than text: https://yaml.org/type/."""
_MERGE: Final = {"<": [("tag:yaml.org,2002:merge", re.compile("<<$"))]}
_INDENTED_LIST: Final = re.compile(r"^( *)[\w.-]+:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*( *)- ", re.MULTILINE)


class DocumentError(Exception):
    """The text is no YAML that can be printed again; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Document(Protocol):
    """One parsed document: `root` may be changed by means of what `native` makes."""

    root: Any

    def native(self, value: Any) -> Any:  # noqa: ANN401 - plain values in, the library's nodes out
        """Return mappings, lists, texts, numbers and booleans as what this document is made of."""

    def print(self) -> str:
        """Return the document's text."""


def parse(body: str) -> Document:
    """Return the document whose text this is; DocumentError where it is none."""
    if body.lstrip().startswith("{"):
        try:
            return _JsonDocument(body)
        except ValueError:
            pass  # YAML in flow style
    return _YamlDocument(body)


class _JsonDocument:
    """A document that is JSON."""

    def __init__(self, body: str) -> None:
        self.root: Any = json.loads(body)
        indented = re.match(r"\s*\{[ \t]*\r?\n([ \t]+)", body)
        self._indent = indented[1] if indented else None

    def native(self, value: Any) -> Any:  # noqa: ANN401
        return value

    def print(self) -> str:
        return json.dumps(self.root, indent=self._indent, ensure_ascii=False) + "\n"


class _Text(VersionedResolver):
    """Takes every plain scalar for text, when reading and when writing, but for the merge key."""

    @property
    def versioned_resolver(self) -> Any:  # noqa: ANN401 - the library's
        return _MERGE


class _YamlDocument:
    """A document that is YAML."""

    def __init__(self, body: str) -> None:
        self._yaml = YAML(typ="rt", pure=True)
        self._yaml.Resolver = _Text
        self._yaml.preserve_quotes = True
        self._yaml.width = _NO_LINE_BREAKS
        offset = _list_offset(body)
        self._yaml.indent(mapping=2, sequence=2 + offset, offset=offset)
        try:
            self.root: Any = self._yaml.load(body)
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise DocumentError(line, f"cannot parse: {error.problem or error.context}") from error
        except YAMLError as error:
            raise DocumentError(1, f"cannot parse: {error}") from error

    def native(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Mapping):
            nodes = CommentedMap()
            for key, child in value.items():
                nodes[key] = self.native(child)
            return nodes
        if isinstance(value, list):
            return CommentedSeq(map(self.native, value))
        if isinstance(value, str) and _NO_TEXT.fullmatch(value):
            return DoubleQuotedScalarString(value)
        return text(value)

    def print(self) -> str:
        printed = io.StringIO()
        self._yaml.dump(self.root, printed)
        return printed.getvalue()


def _list_offset(body: str) -> int:
    """Return by how many columns the first list stands to the right of its key."""
    found = _INDENTED_LIST.search(body)
    return max(len(found[2]) - len(found[1]), 0) if found else 0
