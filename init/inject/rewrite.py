"""A file of manifests in, the same file out with our parts in its pods.

Changes are spliced into the text where that is written as people write it. Elsewhere the document is printed anew by
the library that keeps comments. Either way the result is read once more: what is not ours must say what it said before,
and injecting it again must change nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from meshdns.init.annotations import Annotation
from meshdns.init.errors import ConfigurationError
from meshdns.init.inject.chunk import MAX_FILE_BYTES, Chunk, chunks, read
from meshdns.init.inject.container import Injection
from meshdns.init.inject.pod import Change, apply, changes
from meshdns.init.inject.readback import without_ours
from meshdns.init.inject.refusal import reasons
from meshdns.init.inject.splice import splice
from meshdns.init.inject.values import text
from meshdns.init.inject.workload import MalformedError, Path, Workload, may_hold_pods, workloads
from meshdns.init.proxyconfig import ProxySettings, annotated_settings, switch
from meshdns.resolver.source.manifest import Document

SWITCH: Final = "meshdns.io/inject"
"""Annotation of the pod or of the object that holds it: "false" leaves it as it is."""


@dataclass(slots=True)
class Rewritten:
    """What became of a file. `refused` and `warnings` are lines for the operator; refused objects are unchanged."""

    data: bytes = b""
    changed: bool = False
    refused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def rewrite(data: bytes, file: str, asked: Injection) -> Rewritten:
    """Return what a file becomes; ConfigurationError for what is no file of Kubernetes objects."""
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"cannot read {file}: more than {MAX_FILE_BYTES >> 20} MiB: cut it into several files")
    result = Rewritten()
    whole = bytearray()
    number = 0
    for chunk in chunks(data):
        document = read(chunk, file)
        number += document is not None
        whole += chunk.marker
        whole += chunk.body if document is None else _Editor(chunk, document, file, number, asked, result).body()
    result.data = bytes(whole)
    return result


class _Wanted(NamedTuple):
    """What becomes of one pod: the path of its spec, whether its annotations count, the changes."""

    path: Path
    annotated: bool
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class _Editor:
    """Puts our parts into one document, the `number`-th of its file."""

    chunk: Chunk
    document: Document
    file: str
    number: int
    asked: Injection
    result: Rewritten

    def body(self) -> bytes:
        """Return what the document becomes: the very same bytes where nothing in it changes."""
        if not may_hold_pods(self.document.root):
            return self.chunk.body
        try:
            found = [self._wanted(workload) for workload in workloads(self._tree(self.document, self.chunk.body))]
        except MalformedError as error:
            raise ConfigurationError(f"cannot read {self.file}:{self._line(error.path)}: {error}") from error
        found = [wanted for wanted in found if wanted.changes]
        if not found:
            return self.chunk.body
        self.result.changed = True
        source = self.chunk.body.decode()
        spliced = splice(source, self.document.root, [(wanted.path, wanted.changes) for wanted in found])
        if spliced is not None and self._is_right(spliced.encode(), found):
            return spliced.encode()
        with contextlib.suppress(LookupError):  # a tagged key is another one to the library
            printed = self._printed(source, found)
            if self._is_right(printed, found):
                return printed
        raise ConfigurationError(
            f"cannot rewrite {self.file}:{self.chunk.line}: its meaning would change: write the pod in block style"
        )

    def _wanted(self, workload: Workload) -> _Wanted:
        """Return what changes in a pod; nothing in one that is left alone, or refused."""
        nothing = _Wanted((), False, [])
        try:
            if self._left_alone(workload):
                return nothing
            settings = self._settings(workload)
        except ConfigurationError as error:
            self._refuse(workload, str(error))
            return nothing
        found = list(reasons(workload, self.asked, settings.settings))
        for reason in found:
            self._refuse(workload, reason)
        annotated = bool(settings.settings)
        path = (*workload.pod_path, "spec")
        return nothing if found else _Wanted(path, annotated, changes(workload.spec, self.asked, annotated=annotated))

    def _tree(self, document: Document, body: bytes) -> Any:  # noqa: ANN401 - mappings of either parser
        """Return a document's objects; aliases and tags are left to the library that understands them."""
        if not document.problems:
            return document.root
        from meshdns.init.inject.document import parse  # noqa: PLC0415 - 60 ms that hardly any manifest needs

        return parse(body, self.chunk.line, self.file).root

    def _printed(self, source: str, found: list[_Wanted]) -> bytes:
        from meshdns.init.inject.document import parse  # noqa: PLC0415

        document = parse(source.encode(), self.chunk.line, self.file)
        for path, annotated, _ in found:
            document.unfold(path)
            spec = _at(document.root, path)
            # Asked for once more, for two paths may lead to one pod, by an alias.
            for change in changes(spec, self.asked, annotated=annotated):
                apply(spec, change, document.native)
        printed = document.print()
        return (printed.replace("\n", "\r\n") if "\r\n" in source else printed).encode()

    def _is_right(self, body: bytes, found: list[_Wanted]) -> bool:
        """Return whether a body says what the document said, and holds what is wanted."""
        try:
            document = read(Chunk(b"", body, 1), self.file)
            if document is None or without_ours(document.root) != without_ours(self.document.root):
                return False
            root = self._tree(document, body)
        except ConfigurationError:
            return False
        return not any(changes(_at(root, path), self.asked, annotated=annotated) for path, annotated, _ in found)

    def _left_alone(self, workload: Workload) -> bool:
        told = [
            switch(SWITCH, text(annotations[SWITCH]) or "", "its annotations").value
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
        place = f"document {self.number}, {self.file}:{self._line((*workload.path, 'kind'))}"
        self.result.refused.append(f"cannot inject {workload.name}, {place}: {reason}")

    def _line(self, path: Path) -> int:
        return self.chunk.line + max(self.document.root.line_of(path), 1) - 1


def _at(root: Any, path: Path) -> Any:  # noqa: ANN401 - any part of a document
    for step in path:
        root = root[step]
    return root
