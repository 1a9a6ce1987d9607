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

from meshdns.init.errors import ConfigurationError
from meshdns.init.inject.values import text
from meshdns.init.inject.workload import Path

MAX_BYTES: Final = 4 * 1024 * 1024
"""The library takes a minute and 650 MB for as much."""

_NO_LINE_BREAKS: Final = 2**30
"""Columns after which a long scalar would be broken."""
_NO_TEXT: Final = re.compile(r"|[-+.]?[0-9][-+.:_0-9a-fox]*|true|false|yes|no|on|off|y|n|null|~", re.IGNORECASE)
"""What YAML 1.1 may take for something else than text: https://yaml.org/type/."""
_MERGE: Final = {"<": [("tag:yaml.org,2002:merge", re.compile("<<$"))]}
_INDENTED_LIST: Final = re.compile(r"^( *)[\w.-]+:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*( *)- ", re.MULTILINE)


class Document(Protocol):
    """One parsed document: `root` may be changed by means of what `native` makes."""

    root: Any

    def native(self, value: Any) -> Any:  # noqa: ANN401 - plain values in, the library's nodes out
        """Return mappings, lists, texts, numbers and booleans as what this document is made of."""

    def unfold(self, path: Path) -> None:
        """Let what leads to a pod's spec at `path` stand in block style, a key a line."""

    def print(self) -> str:
        """Return the document's text."""


def parse(data: bytes, line: int, file: str) -> Document:
    """Return a document that starts at a line of a file; ConfigurationError where the library cannot read it."""
    if len(data) > MAX_BYTES:
        raise ConfigurationError(
            f"cannot read {file}:{line}: a document of more than {MAX_BYTES >> 20} MiB that is not all in block style,"
            " or has aliases: cut it into several"
        )
    body = data.decode().replace("\r\n", "\n")
    if body.lstrip().startswith("{"):
        try:
            return _JsonDocument(body)
        except ValueError:
            pass  # YAML in flow style
    try:
        return _YamlDocument(body)
    except MarkedYAMLError as error:
        line += error.problem_mark.line if error.problem_mark else 0
        reason = error.problem or error.context
        raise ConfigurationError(f"cannot read {file}:{line}: cannot parse: {reason}") from error
    except TypeError as error:  # keys are hashed, which only a list or mapping of plain values takes
        reason = "a key has a mapping or a list in it"
        raise ConfigurationError(f"cannot read {file}:{line}: cannot parse: {reason}") from error
    except YAMLError as error:
        raise ConfigurationError(f"cannot read {file}:{line}: cannot parse: {error}") from error


class _JsonDocument:
    """A document that is JSON."""

    def __init__(self, body: str) -> None:
        self.root: Any = json.loads(body)
        indented = re.match(r"\s*\{[ \t]*\r?\n([ \t]+)", body)
        self._ascii = body.isascii()  # then what was escaped stays so
        self._indent = indented[1] if indented else None

    def native(self, value: Any) -> Any:  # noqa: ANN401
        return value

    def unfold(self, path: Path) -> None:
        """JSON has one style."""

    def print(self) -> str:
        return json.dumps(self.root, indent=self._indent, ensure_ascii=self._ascii) + "\n"


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
        self.root: Any = self._yaml.load(body)

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

    def unfold(self, path: Path) -> None:
        nodes = [self.root]
        for step in path:
            nodes.append(nodes[-1][step])
        for node in (*nodes, *nodes[-1].values()):
            if isinstance(node, CommentedMap | CommentedSeq):
                node.fa.set_block_style()

    def print(self) -> str:
        printed = io.StringIO()
        self._yaml.dump(self.root, printed)
        return printed.getvalue()


def _list_offset(body: str) -> int:
    """Return by how many columns the first list stands to the right of its key."""
    found = _INDENTED_LIST.search(body)
    return max(len(found[2]) - len(found[1]), 0) if found else 0
