"""A file of manifests in, the same file out with our parts in its pods.

The file is cut where YAML cuts it, and a document that does not change is never printed anew: its bytes stay. Each one
goes through the resolver's own parser first, which knows lines and is bounded, so that what is deep, broken or no
object is refused before the slow one sees it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from meshdns.init.annotations import Annotation
from meshdns.init.errors import ConfigurationError
from meshdns.init.inject.container import Injection
from meshdns.init.inject.document import Document, DocumentError, parse
from meshdns.init.inject.pod import arrange
from meshdns.init.inject.refusal import reasons
from meshdns.init.inject.values import text
from meshdns.init.inject.workload import MalformedError, Workload, holds_workloads, workloads
from meshdns.init.proxyconfig import ProxySettings, annotated_settings, switch
from meshdns.resolver.source import rules
from meshdns.resolver.source.manifest import Break, documents
from meshdns.resolver.source.tree import Fields

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""etcd takes objects of 1.5 MiB; a file is many of them, and the parser that keeps comments takes a minute for this."""
SWITCH: Final = "meshdns.io/inject"
"""Annotation of the pod or of the object that holds it: "false" leaves it as it is."""

_MARKER: Final = re.compile(rb"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)(?:[ \t]*(?:#[^\n]*)?(?:\n|\Z))?", re.MULTILINE)
"""What starts a document or ends one (YAML 1.1, section 4.3): its line, or less where the document begins in it."""
_ALLOWED: Final = frozenset({rules.ALIAS.id, rules.TAG.id, rules.KEY_NOT_TEXT.id})
"""What the resolver refuses and a workload may have."""


@dataclass(slots=True)
class Rewritten:
    """What became of a file. `refused` and `warnings` are lines for the operator; refused objects are unchanged."""

    data: bytes = b""
    changed: bool = False
    refused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One document: its marker, the rest, and the line at which the rest starts."""

    marker: bytes
    body: bytes
    line: int


def rewrite(data: bytes, file: str, asked: Injection) -> Rewritten:
    """Return what a file becomes; ConfigurationError for what is no file of Kubernetes objects."""
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"cannot read {file}: more than {MAX_FILE_BYTES >> 20} MiB: cut it into several files")
    result = Rewritten()
    pieces: list[bytes] = []
    number = 0
    for chunk in _chunks(data):
        root = _parsed(chunk, file)
        number += root is not None
        body = chunk.body if root is None else _Editor(chunk, root, file, number, asked, result).body()
        pieces += [chunk.marker, body]
    result.data = b"".join(pieces)
    return result


def _chunks(data: bytes) -> Iterator[_Chunk]:
    marks = [(0, 0), *(mark.span() for mark in _MARKER.finditer(data)), (len(data), len(data))]
    line = 1
    for (start, end), (following, _) in itertools.pairwise(marks):
        line += data.count(b"\n", start, end)
        yield _Chunk(data[start:end], data[end:following], line)
        line += data.count(b"\n", end, following)


def _parsed(chunk: _Chunk, file: str) -> Fields | None:
    """Return a document as the resolver's parser sees it, None where there is none."""
    if all(line.lstrip()[:1] in (b"", b"#", b"%") for line in chunk.body.splitlines()):
        return None
    for document in documents(chunk.body, file):
        for problem in (document.problem,) if isinstance(document, Break) else document.problems:
            if problem.rule not in _ALLOWED:
                line = chunk.line + max(problem.line, 1) - 1
                raise ConfigurationError(f"cannot read {file}:{line}: {problem.reason}")
        if not isinstance(document, Break):
            for name in ("apiVersion", "kind"):
                if not isinstance(document.root.get(name), str):
                    line = chunk.line + max(document.root.line_of(()), 1) - 1
                    raise ConfigurationError(f"cannot read {file}:{line}: not a Kubernetes object: it has no {name}")
            return document.root
    return None


@dataclass(frozen=True, slots=True)
class _Editor:
    """Puts our parts into one document."""

    chunk: _Chunk
    root: Fields
    file: str
    number: int
    asked: Injection
    result: Rewritten

    def body(self) -> bytes:
        """Return what the document becomes: the very same bytes where nothing in it changes."""
        if not holds_workloads(self.root["kind"], self.root["apiVersion"]):
            return self.chunk.body
        source = self.chunk.body.decode().replace("\r\n", "\n")
        try:
            document = parse(source)
            changes = [self._inject(document, workload) for workload in workloads(document.root)]
        except DocumentError as error:
            raise ConfigurationError(f"cannot read {self.file}:{self.chunk.line + error.line - 1}: {error}") from error
        except MalformedError as error:
            raise ConfigurationError(f"cannot read {self.file}:{self._line(error.path)}: {error}") from error
        if not any(changes):
            return self.chunk.body
        self.result.changed = True
        printed = document.print()
        return (printed.replace("\n", "\r\n") if b"\r\n" in self.chunk.body else printed).encode()

    def _inject(self, document: Document, workload: Workload) -> bool:
        try:
            if self._left_alone(workload):
                return False
            settings = self._settings(workload)
        except ConfigurationError as error:
            self._refuse(workload, str(error))
            return False
        found = list(reasons(workload, self.asked))
        for reason in found:
            self._refuse(workload, reason)
        return not found and arrange(workload.spec, self.asked, document.native, annotated=bool(settings.settings))

    def _left_alone(self, workload: Workload) -> bool:
        told = [
            switch(SWITCH, text(annotations[SWITCH]) or "", self._place(workload)).value
            for annotations in (workload.annotations(), workload.object_annotations())
            if SWITCH in annotations
        ]
        return not all(told)

    def _settings(self, workload: Workload) -> ProxySettings:
        """Return what Istio's annotations say in this pod, which is checked now, before a pod fails by it."""
        path = (*workload.pod_path, "metadata", "annotations")
        annotations = {
            name: Annotation(text(value) or "", self._line((*path, name)))
            for name, value in workload.annotations().items()
            if isinstance(name, str)
        }
        settings = annotated_settings(annotations, self.file)
        self.result.warnings += settings.warnings
        return settings

    def _refuse(self, workload: Workload, reason: str) -> None:
        self.result.refused.append(f"cannot inject {workload.name}, {self._place(workload)}: {reason}")

    def _place(self, workload: Workload) -> str:
        return f"document {self.number}, {self.file}:{self._line((*workload.path, 'kind'))}"

    def _line(self, path: tuple[Any, ...]) -> int:
        return self.chunk.line + max(self.root.line_of(path), 1) - 1
