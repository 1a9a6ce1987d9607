"""Which files the mounted manifests are, and what is in them as bytes: a door to the file system.

The serving process uses this too, to watch and to compare; so nothing here may import YAML or what reads manifests.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

SUFFIXES: Final = (".yaml", ".yml", ".json")

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""A mounted ConfigMap holds 1 MiB; ten thousand entries in one file are 5 MiB."""


class Found(NamedTuple):
    """A manifest file: the path that the operator gave (`root`) and its own."""

    root: str
    path: str


class Missing(NamedTuple):
    """A path that cannot be listed, and why."""

    root: str
    error: OSError


def listed(paths: Sequence[str]) -> Iterator[Found | Missing]:
    """Yield the files in `paths`, directories or files, in order; one that several links lead to only once."""
    seen: set[str] = set()
    for root in paths:
        try:
            files = manifests(Path(root))
        except OSError as error:
            yield Missing(root, error)
            continue
        for path in files:
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                yield Found(root, str(path))


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


def content(path: str) -> bytes | None:
    """Return the file's bytes, one more than is allowed at most; None for what is not a file, such as a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        # Python makes room for as many bytes as it is asked for; asked for all, for as many as there are.
        return file.read(MAX_FILE_BYTES + 1) if found.st_size > MAX_FILE_BYTES else file.read()


def digest(data: bytes | memoryview) -> bytes:
    """Return what tells one content of a file from every other: its SHA-256."""
    return hashlib.sha256(data).digest()
