"""Door: file system. Notes in /run/meshdns that one meshdns leaves for another, for one network namespace each.

Who writes there is root or nobody: the directory belongs to it. Every note is gone after a restart of the machine, as
the rules are.
"""

# pathlib costs 5 ms: see proc.py
# ruff: noqa: PTH103, PTH105, PTH108, PTH123

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.system.namespace import LOCKS, about_this, about_this_alone, remove_file

MAX_NOTE_BYTES: Final = 4 * 1024 * 1024
WATCH: Final = "watch"


def read(kind: str) -> bytes | None:
    """Return the note of that kind about this namespace, None where there is none that we may read."""
    try:
        with open(_place(kind), "rb") as file:
            return file.read(MAX_NOTE_BYTES)
    except OSError:
        return None


def write(kind: str, content: bytes) -> None:
    """Leave a note, in place of an older one at once; PreflightError where nothing can be written."""
    path = _place(kind)
    new = f"{path}.new"
    try:
        os.makedirs(LOCKS, mode=0o755, exist_ok=True)
        remove_file(new)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(new, path)
    except OSError as error:
        raise PreflightError(f"cannot write {path}: {error.strerror}") from error


def remove(kind: str) -> None:
    """Take a note away, there or not; also one that an older version has left, which knows a namespace by its inode."""
    for path in {_place(kind), about_this(kind)}:
        with contextlib.suppress(OSError):
            os.unlink(path)


def are_of_here() -> bool:
    """Return whether every note that is found was left in this very namespace.

    Where not, because the kernel is older than 5.14, it may be of one that is gone and had the same inode.
    """
    return about_this_alone("") is not None


def _place(kind: str) -> str:
    return about_this_alone(kind) or about_this(kind)


@contextlib.contextmanager
def watching() -> Iterator[Callable[[], bool]]:
    """Be known as the watch of this namespace; gives a function that says whether `dismiss_watch` was called since.

    PreflightError where another watch is at it, or where nothing can be written.
    """
    path = about_this(WATCH)
    try:
        os.makedirs(LOCKS, mode=0o755, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PreflightError(
            f"cannot watch the rules: {path}: {error.strerror}: `uninstall` could not tell it to stop"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lambda: os.fstat(descriptor).st_nlink == 0
        if os.fstat(descriptor).st_nlink:
            remove_file(path)
    except BlockingIOError as error:
        raise PreflightError("cannot watch the rules: another `meshdns capture watch` does it already") from error
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def attended(kind: str) -> Iterator[None]:
    """Be known, for the length of a block, as the one who attends to something; it ends with the process, too.

    Waits while another attends to it, and so is there when that one ends. PreflightError where nothing can be written.
    """
    path = _attendance(kind)
    descriptor = _attend(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _attend(path: str) -> int:
    try:
        os.makedirs(LOCKS, mode=0o755, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # the last one removed it between our open and our lock
    except OSError as error:
        raise PreflightError(f"cannot attend to {path}: {error.strerror}") from error


def is_attended(kind: str) -> bool:
    """Return whether anybody attends to it; any number may ask at once, and none takes another for an answer."""
    try:
        with open(_attendance(kind), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _attendance(kind: str) -> str:
    return f"{about_this(kind)}.attended"


def dismiss_watch() -> None:
    """Tell the watch of this namespace, if any, that what it watches was removed on purpose, by who holds the lock."""
    with contextlib.suppress(OSError):
        os.unlink(about_this(WATCH))
