"""Where YAML cuts a file, and what the resolver's own parser says of each piece: is it an object, and where is what.

That parser is quick and bounded, so that what is deep, broken or no object is refused before the slow one sees it. A
document that does not change is never printed anew: its bytes stay.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from meshdns.init.errors import ConfigurationError
from meshdns.resolver.source import rules
from meshdns.resolver.source.manifest import Break, Document, documents
from meshdns.resolver.source.problem import Problem

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""Ten of the largest objects that etcd takes (1.5 MiB)."""

_MARKER: Final = re.compile(rb"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)(?:[ \t]*(?:#[^\n]*|\r)?(?:\n|\Z))?", re.MULTILINE)
"""What starts a document or ends one (YAML 1.1, section 4.3): its line, or less where the document begins in it."""
_TOLERATED: Final = frozenset({rules.ALIAS.id, rules.TAG.id, rules.KEY_NOT_TEXT.id})
"""What the resolver refuses and a workload may have."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One document, or nothing but comments: its marker, the rest, and the line at which the rest starts, from 1."""

    marker: bytes
    body: bytes
    line: int


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the pieces of a file, which make the file again when they are put together."""
    ends = [(0, 0)], (mark.span() for mark in _MARKER.finditer(data)), [(len(data), len(data))]
    line = 1
    for (start, end), (following, _) in itertools.pairwise(itertools.chain(*ends)):
        line += data.count(b"\n", start, end)
        yield Chunk(data[start:end], data[end:following], line)
        line += data.count(b"\n", end, following)


def read(chunk: Chunk, file: str) -> Document | None:
    """Return a document as the resolver's parser sees it, None where there is none.

    ConfigurationError with file and line: no YAML, or no Kubernetes object.
    """
    if all(line.lstrip()[:1] in (b"", b"#", b"%") for line in chunk.body.splitlines()):
        return None
    for document in documents(chunk.body, file):
        for problem in (document.problem,) if isinstance(document, Break) else document.problems:
            is_template = _is_template(chunk, problem)
            if problem.rule not in _TOLERATED or (is_template and problem.rule == rules.KEY_NOT_TEXT.id):
                hint = ": is it a template that is not rendered?" if is_template else ""
                raise _refusal(chunk, file, problem.line, _reason(problem) + hint)
        if isinstance(document, Document):
            for name in ("apiVersion", "kind"):
                if not isinstance(document.root.get(name), str):
                    line = document.root.line_of(())
                    raise _refusal(chunk, file, line, f"not a Kubernetes object: it has no {name}")
            return document
    return None


def _is_template(chunk: Chunk, problem: Problem) -> bool:
    """Tell whether a template may be to blame: to YAML, `{{ x }}` is a mapping whose key is a mapping."""
    lines = chunk.body.splitlines()
    return 0 < problem.line <= len(lines) and b"{{" in lines[problem.line - 1]


def _reason(problem: Problem) -> str:
    return f"not a Kubernetes object: {problem.reason}" if problem.rule == rules.NOT_A_MAPPING.id else problem.reason


def _refusal(chunk: Chunk, file: str, line: int, reason: str) -> ConfigurationError:
    return ConfigurationError(f"cannot read {file}:{chunk.line + max(line, 1) - 1}: {reason}")
