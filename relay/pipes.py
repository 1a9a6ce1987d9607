"""Pipes that directions of a connection borrow while bytes are in them.

Decides: how many idle ones are kept, how large they are, and whether there are any at all. pipe(7), splice(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Final

PIPE_BYTES: Final = 256 * 1024
"""A pipe counts pages, and a page may hold one small segment: with room to spare, 64 KiB of those fit. pipe(7)."""

IDLE_PIPES_MAX: Final = 16


class Pipe:
    """Both ends of a pipe, non-blocking."""

    __slots__ = ("read", "write")

    def __init__(self) -> None:
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # the user's share of pipe memory is used up: a small one works too
            fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def close(self) -> None:
        """Give up the pipe, and what is in it."""
        os.close(self.read)
        os.close(self.write)


class Pipes:
    """The pipes that nobody borrows at the moment."""

    __slots__ = ("_idle", "_useless")

    def __init__(self) -> None:
        self._idle: list[Pipe] = []
        self._useless = False

    def borrow(self) -> Pipe | None:
        """Hand out an empty pipe; None when descriptors are short or pipes are of no use."""
        if self._useless:
            return None
        if self._idle:
            return self._idle.pop()
        try:
            return Pipe()
        except OSError:
            return None

    def give_back(self, pipe: Pipe) -> None:
        """Take an empty pipe back. One that still holds something is to be closed instead."""
        if len(self._idle) < IDLE_PIPES_MAX:
            self._idle.append(pipe)
        else:
            pipe.close()

    def give_up(self) -> None:
        """Hand out none from now on: this kernel cannot move a socket's bytes through them."""
        self._useless = True

    def close(self) -> None:
        """Close those that nobody borrows."""
        while self._idle:
            self._idle.pop().close()
