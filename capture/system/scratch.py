"""Door: an empty network namespace to try things in, so that trying changes nothing anywhere."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from meshdns.capture.errors import PreflightError

T = TypeVar("T")

CLONE_NEWNET: Final = 0x40000000
"""linux/sched.h"""


class NoScratchError(PreflightError):
    """No namespace may be made here: it takes CAP_SYS_ADMIN."""


def in_scratch(function: Callable[[], T]) -> T:
    """Call a function in a network namespace of its own, which ends with it; its result or exception comes back.

    NoScratchError: none may be made.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            _leave()
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - it ends a thread here, and is raised in the caller's
            errors.append(error)

    # A thread, because a process cannot come back from where it went; programs that it starts go with it.
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _leave() -> None:
    import ctypes  # noqa: PLC0415 - 2 ms, and only what is installed for the first time is tried

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        cause = os.strerror(ctypes.get_errno()).lower()
        raise NoScratchError(f"cannot make a network namespace to try in: {cause}: it takes CAP_SYS_ADMIN")
