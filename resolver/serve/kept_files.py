"""What was read from each manifest file, kept under its digest: a file that has not changed is not parsed again.

Only the loading child uses this. What stands of a file is decided from it anew (`source.standing`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from meshdns.resolver.serve.shelf import Shelf
from meshdns.resolver.source.columns import read, written
from meshdns.resolver.source.manifest import Break
from meshdns.resolver.source.read import Ignored, Outcome
from meshdns.resolver.source.standing import LoadedFile, standing_file

FORMAT: Final = 1

Result: TypeAlias = Outcome | Ignored | Break
_RESULT: Final = Outcome | Ignored | Break

Place: TypeAlias = tuple[str, str, bytes]
"""A file as it was found: the path that the operator gave, its own, and the digest of its content."""


class KeptFiles:
    """The outcomes of files, for one version of the program and one namespace of objects that name none."""

    def __init__(self, shelf: Shelf, version: str, namespace: str) -> None:
        self._shelf = shelf
        self._scope = f"{FORMAT} {version} {namespace}"
        self._fresh: dict[str, Sequence[Result]] = {}

    def get(self, path: str, digest: bytes) -> Sequence[Result] | None:
        """Return what came of the file when it had this content, if that is known."""
        data = self._shelf.get(self.name(path, digest))
        if data is None:
            return None
        try:
            return read(_RESULT, json.loads(bytes(data)))
        except (ValueError, RecursionError):
            return None

    def put(self, path: str, digest: bytes, outcomes: Sequence[Result]) -> None:
        """Note what came of it, to be written when there is time."""
        self._fresh[self.name(path, digest)] = outcomes

    def write(self) -> None:
        """Put what was noted on the shelf."""
        for name, outcomes in self._fresh.items():
            self._shelf.put(name, json.dumps(written(_RESULT, outcomes), separators=(",", ":")).encode())
        self._fresh.clear()

    def files(self, places: Iterable[Place]) -> Iterator[LoadedFile]:
        """Yield the files as they stood with these contents, as far as that is known."""
        for root, path, digest in places:
            outcomes = self.get(path, digest)
            if outcomes is not None:
                yield standing_file(outcomes, LoadedFile(root, path, digest, (), ()), None, {})

    def name(self, path: str, digest: bytes) -> str:
        """Return the name under which the shelf has a file's outcomes. Problems and origins hold the path."""
        return hashlib.sha256(f"{self._scope}\0{path}\0".encode(errors="surrogateescape") + digest).hexdigest()
