"""The mounted manifests: a door to the file system. Lists the files and reads those that changed.

What was good stays until it is good again or its file is really gone: `standing` decides that for objects and files,
and a path that cannot be listed keeps all its files. What comes out is plain values that can go to another process.
Which files there are is `listing`'s to say, when to look again `watch`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from meshdns.resolver.source import rules
from meshdns.resolver.source.conflicts import conflicts
from meshdns.resolver.source.entry import Entry
from meshdns.resolver.source.listing import Found, Missing, content, digest, is_directory, listed
from meshdns.resolver.source.manifest import Break
from meshdns.resolver.source.problem import Problem, Rule
from meshdns.resolver.source.read import Ignored, Outcome, read
from meshdns.resolver.source.standing import LoadedFile, Past, past_of, served, standing_file, unread_file

DATA_LINK: Final = "..data"
"""What kubelet renames when a ConfigMap changes; everything visible in the mount leads through it."""
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """Everything that the manifests say now, and what is wrong with them. `entries` come in the order of the files.

    `ignored` counts objects of kinds that are not read. `missing` are the paths that could not be listed.
    """

    namespace: str
    files: tuple[LoadedFile, ...]
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    ignored: int
    missing: tuple[str, ...]


class Kept(Protocol):
    """What was read from files at some time, by what they held."""

    def get(self, path: str, digest: bytes) -> Sequence[Outcome | Ignored | Break] | None:
        """Return what came of the file when it had this content, if that is known."""

    def put(self, path: str, digest: bytes, outcomes: Sequence[Outcome | Ignored | Break]) -> None:
        """Note what came of it."""


def load(paths: Sequence[str], namespace: str, previous: Loaded | None = None, kept: Kept | None = None) -> Loaded:
    """Read the manifests in `paths`, directories or files; `previous` is what the last load gave.

    A file whose content is the same, or is one of those in `kept`, is not parsed again. Never raises for what it finds,
    or does not find, on disk.
    """
    before = previous.files if previous and previous.namespace == namespace else ()
    for _ in range(_TRIES):  # a ConfigMap that changes while it is read gives half of each version
        generations = _generations(paths)
        loaded = _Loader(namespace, before, kept).load(paths)
        if generations == _generations(paths):
            break
    return loaded


def _generations(paths: Sequence[str]) -> list[str]:
    """Return what tells one content of each ConfigMap mount from the next."""
    found = []
    for path in map(Path, paths):
        link = (path if is_directory(path) else path.parent) / DATA_LINK
        try:
            found.append(str(link.readlink()))
        except OSError:
            found.append("")
    return found


class _Loader:
    """One pass over the paths, on top of the files of the pass before."""

    def __init__(self, namespace: str, before: Sequence[LoadedFile], kept: Kept | None) -> None:
        self._namespace = namespace
        self._kept = kept
        self._before = before
        self._by_path = {file.path: file for file in before}
        self._past: Past = past_of(before)

    def load(self, paths: Sequence[str]) -> Loaded:
        files: list[LoadedFile] = []
        problems: list[Problem] = []
        missing: list[str] = []
        for found in listed(paths):
            if isinstance(found, Missing):
                missing.append(found.root)
                problems.append(_unlisted(found))
                files += [file for file in self._before if file.root == found.root]
            elif (file := self._file(found)) is not None:
                files.append(file)
        entries, twice = served(files)
        problems += (problem for file in files for problem in file.problems)
        problems += (*twice, *conflicts(entries))
        ignored = sum(file.ignored for file in files)
        return Loaded(self._namespace, tuple(files), entries, tuple(problems), ignored, tuple(missing))

    def _file(self, found: Found) -> LoadedFile | None:
        """Return what stands of the file; None when it went away meanwhile."""
        before = self._by_path.get(found.path)
        place = LoadedFile(found.root, found.path, b"", (), ())
        try:
            data = content(found.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return unread_file(_fault(rules.UNREADABLE, found.path, f"cannot read: {error.strerror}"), place, before)
        if data is None:
            return unread_file(_fault(rules.UNREADABLE, found.path, "cannot read: not a regular file"), place, before)
        now = digest(data)
        if before is not None and before.digest == now:
            return replace(before, root=found.root)
        return standing_file(self._outcomes(data, found.path, now), replace(place, digest=now), before, self._past)

    def _outcomes(self, data: bytes, path: str, now: bytes) -> Iterable[Outcome | Ignored | Break]:
        """Return what comes of the file's content: from memory, or by parsing it."""
        if self._kept is None:
            return read(data, path, self._namespace)
        known = self._kept.get(path, now)
        if known is None:
            known = list(read(data, path, self._namespace))
            self._kept.put(path, now, known)
        return known


def _unlisted(missing: Missing) -> Problem:
    if isinstance(missing.error, FileNotFoundError):
        return _fault(rules.MISSING_PATH, missing.root, "does not exist; what was read from it before is kept")
    reason = f"cannot read: {missing.error.strerror}; what was read from it before is kept"
    return _fault(rules.UNREADABLE, missing.root, reason)


def _fault(rule: Rule, path: str, reason: str) -> Problem:
    return Problem(path, 0, "", rule.id, rule.level, reason, rule.fix)
