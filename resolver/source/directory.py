"""The mounted manifests: a door to the file system. Lists the files and reads those that changed.

What was good stays until it is good again or its file is really gone: `standing` decides that for objects and files,
and a path that cannot be listed keeps all its files. What comes out is plain values that can go to another process.
Watching for changes is `watch`'s.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from meshdns.resolver.source import rules
from meshdns.resolver.source.conflicts import conflicts
from meshdns.resolver.source.entry import Entry
from meshdns.resolver.source.manifest import MAX_FILE_BYTES
from meshdns.resolver.source.problem import Problem, Rule
from meshdns.resolver.source.standing import LoadedFile, Past, past_of, read_file, served, unread_file

SUFFIXES: Final = (".yaml", ".yml", ".json")
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


def load(paths: Sequence[str], namespace: str, previous: Loaded | None = None) -> Loaded:
    """Read the manifests in `paths`, directories or files; `previous` is what the last load gave.

    A file whose content is the same is not parsed again. Never raises for what it finds, or does not find, on disk.
    """
    before = previous.files if previous and previous.namespace == namespace else ()
    for _ in range(_TRIES):  # a ConfigMap that changes while it is read gives half of each version
        generations = _generations(paths)
        loaded = _Loader(namespace, before).load(paths)
        if generations == _generations(paths):
            break
    return loaded


def check(paths: Sequence[str], namespace: str) -> list[Problem]:
    """Return everything that is wrong with the manifests in `paths`, file by file."""
    return list(load(paths, namespace).problems)


def manifests(path: Path) -> list[Path]:
    """Return the manifest files in a directory by name, without hidden ones; a file is itself. Raises OSError."""
    if not stat.S_ISDIR(path.stat().st_mode):
        return [path]
    with os.scandir(path) as found:
        return [path / name for name in sorted(item.name for item in found if is_manifest(item.name))]


def is_directory(path: Path) -> bool:
    """Return whether `path` is a directory as far as can be seen; Path.is_dir raises where it may not look."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def is_manifest(name: str) -> bool:
    """Return whether a file in a directory is read, going by its name."""
    return name.endswith(SUFFIXES) and not name.startswith(".")


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

    def __init__(self, namespace: str, before: Sequence[LoadedFile]) -> None:
        self._namespace = namespace
        self._before = before
        self._by_path = {file.path: file for file in before}
        self._past: Past = past_of(before)
        self._real_paths: set[str] = set()

    def load(self, paths: Sequence[str]) -> Loaded:
        files: list[LoadedFile] = []
        problems: list[Problem] = []
        missing: list[str] = []
        for root in paths:
            try:
                found = manifests(Path(root))
            except OSError as error:
                missing.append(root)
                problems.append(_unlisted(root, error))
                files += [file for file in self._before if file.root == root]
            else:
                files += self._files(root, found)
        entries, twice = served(files)
        problems += (problem for file in files for problem in file.problems)
        problems += (*twice, *conflicts(entries))
        ignored = sum(file.ignored for file in files)
        return Loaded(self._namespace, tuple(files), entries, tuple(problems), ignored, tuple(missing))

    def _files(self, root: str, found: list[Path]) -> Iterator[LoadedFile]:
        for path in found:
            real = os.path.realpath(path)
            if real not in self._real_paths:
                self._real_paths.add(real)
                file = self._file(root, path)
                if file is not None:
                    yield file

    def _file(self, root: str, path: Path) -> LoadedFile | None:
        """Return what stands of the file; None when it went away meanwhile."""
        before = self._by_path.get(str(path))
        place = LoadedFile(root, str(path), b"", (), ())
        try:
            data = _content(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return unread_file(_fault(rules.UNREADABLE, str(path), f"cannot read: {error.strerror}"), place, before)
        if data is None:
            return unread_file(_fault(rules.UNREADABLE, str(path), "cannot read: not a regular file"), place, before)
        digest = hashlib.sha256(data).digest()
        if before is not None and before.digest == digest:
            return replace(before, root=root)
        return read_file(data, replace(place, digest=digest), before, self._past, self._namespace)


def _content(path: Path) -> bytes | None:
    """Return the file's bytes, one more than is allowed at most; None for what is not a file, such as a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(MAX_FILE_BYTES + 1)


def _unlisted(root: str, error: OSError) -> Problem:
    if isinstance(error, FileNotFoundError):
        return _fault(rules.MISSING_PATH, root, "does not exist; what was read from it before is kept")
    return _fault(rules.UNREADABLE, root, f"cannot read: {error.strerror}; what was read from it before is kept")


def _fault(rule: Rule, path: str, reason: str) -> Problem:
    return Problem(path, 0, "", rule.id, rule.level, reason, rule.fix)
