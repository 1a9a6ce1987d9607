"""One direction of a connection: what one side says, until the other side has accepted it.

Small amounts are copied; a direction that fills the buffer goes on through a pipe in the kernel, splice(2), which costs
less per byte. An idle direction holds neither. Every read goes on until the kernel says EAGAIN: a short one proves
nothing (urgent data and Unix sockets cut reads short), and edges are reported once, epoll(7).

Never here: the other direction, what a failure means for the pair.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meshdns.relay.pipes import Pipe, Pipes

HELD_BYTES: Final = 64 * 1024
"""What is taken from one side before the other side has accepted it, per direction."""

TRICKLE_BYTES: Final = 16 * 1024
"""A direction whose pipe gets less than this at once is copied again."""

ROUNDS: Final = 2
"""How many times HELD_BYTES a step may move while the sink accepts everything at once."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_SPLICE_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_NO_SPLICE: Final = (errno.EINVAL, errno.ENOSYS, errno.EPERM)
"""What a kernel or a seccomp filter says that does not know splice(2) for sockets."""


class End(StrEnum):
    """How a pair of sockets ended."""

    CLOSED = "closed"
    CLIENT_RESET = "client-reset"
    ENDPOINT_RESET = "endpoint-reset"
    IDLE = "idle"
    DRAINED = "drained"


def reset(sock: socket.socket) -> None:
    """Close with a RST, SO_LINGER in socket(7): an end that is no end of the data must not look like one."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()


@dataclass(frozen=True, slots=True)
class Shared:
    """What all directions of a relay use by turns: a buffer, never filled between two steps, and the pipes."""

    buffer: memoryview
    pipes: Pipes


class Direction:
    """What one side says to the other. `held` bytes were taken and not accepted yet: they are in `pipe` or in `rest`.

    `failure` names the side that is gone, once reading or writing has shown it.
    """

    __slots__ = (
        "_buffer",
        "_bulk",
        "_pipe",
        "_pipes",
        "_rest",
        "_sink",
        "_sink_failure",
        "_source",
        "_source_failure",
        "can_read",
        "can_write",
        "ended",
        "failure",
        "held",
        "moved",
        "shut",
    )

    def __init__(self, source: socket.socket, sink: socket.socket, failures: tuple[End, End], shared: Shared) -> None:
        self._source = source
        self._sink = sink
        self._source_failure, self._sink_failure = failures
        self._buffer = shared.buffer
        self._pipes = shared.pipes
        self._pipe: Pipe | None = None
        self._rest: memoryview | None = None
        self._bulk = False
        self.can_read = False  # until the kernel says so, which it does once a socket is watched
        self.can_write = True
        self.ended = False
        self.shut = False
        self.failure: End | None = None
        self.held = 0
        self.moved = 0

    def step(self) -> bool:
        """Pass on what is held, else take and pass on a bounded amount; True while more can be done at once."""
        if self.failure:
            return False
        if self.held:
            if self.can_write:
                self._pass_on_held()
        elif self.can_read and not self.ended:
            if self._bulk:
                self._take_by_pipe()
            else:
                self._take_by_copy()
        if self.failure:
            return False
        return self.can_write if self.held else self.can_read and not self.ended

    def pass_on_end(self) -> None:
        """Once everything before it is accepted, tell the sink that the source has ended."""
        if self.ended and not self.held and not self.shut and not self.failure:
            self.shut = True
            try:
                self._sink.shutdown(socket.SHUT_WR)
            except OSError:
                self.failure = self._sink_failure

    def drop(self) -> None:
        """Give up what is held."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self._rest = None
        self.held = 0

    def _take_by_copy(self) -> None:
        try:
            count = self._source.recv_into(self._buffer)
        except BlockingIOError:
            self.can_read = False
            return
        except OSError:
            self.failure = self._source_failure
            return
        self._bulk = count == HELD_BYTES
        self.held = count
        if count == 0:
            self.ended = True
            return
        self._send(self._buffer[:count])

    def _send(self, data: memoryview) -> None:
        try:
            count = self._sink.send(data)
        except BlockingIOError:
            self.can_write = False
            count = 0
        except OSError:
            self.failure = self._sink_failure
            return
        self.moved += count
        self.held -= count
        if not self.held:
            self._rest = None
        elif self._rest is None:
            self._rest = memoryview(bytes(data[count:]))  # the buffer is everybody's
        else:
            self._rest = data[count:]

    def _take_by_pipe(self) -> None:
        pipe = self._pipes.borrow()
        if pipe is None:
            self._take_by_copy()
            return
        self._pipe = pipe
        for _ in range(ROUNDS):
            self._splice_in(pipe)
            if not self.held:
                break
            self._splice_out(pipe)
            if self.held:
                return
        self._return_pipe()

    def _splice_in(self, pipe: Pipe) -> None:
        try:
            self.held = os.splice(self._source.fileno(), pipe.write, HELD_BYTES, flags=_SPLICE_FLAGS)
        except BlockingIOError:
            self.can_read = False
        except OSError as error:
            if error.errno in _NO_SPLICE:
                self._pipes.give_up()
            else:
                self.failure = self._source_failure
        else:
            self._bulk = self.held >= TRICKLE_BYTES
            self.ended = self.held == 0

    def _splice_out(self, pipe: Pipe) -> None:
        try:
            count = os.splice(pipe.read, self._sink.fileno(), self.held, flags=_SPLICE_FLAGS)
        except BlockingIOError:
            self.can_write = False
            return
        except OSError:
            self.failure = self._sink_failure
            return
        self.moved += count
        self.held -= count

    def _pass_on_held(self) -> None:
        if self._pipe is not None:
            self._splice_out(self._pipe)
            if not self.held:
                self._return_pipe()
        elif self._rest is not None:
            self._send(self._rest)

    def _return_pipe(self) -> None:
        if self._pipe is not None:
            self._pipes.give_back(self._pipe)
            self._pipe = None
