"""Bytes both ways between two connected sockets: half-close, back-pressure, resets, the idle limit.

Decides: when a pair has ended and how, in which order both directions get their turn, which pairs are idle too long.
Never here: where a connection goes, connecting, what is counted under which name.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final

from meshdns.relay.counters import RelayCounters
from meshdns.relay.direction import HELD_BYTES, Direction, End, Shared, reset
from meshdns.relay.pipes import Pipes
from meshdns.relay.readiness import FAILED, READABLE, WRITABLE, Readiness

IDLE_CHECKS: Final = 8
"""How many times per idle limit idle connections are looked for: so much of it they may live longer."""

IDLE_AT_ONCE: Final = 64
"""Idle connections that are ended before the loop gets its turn."""


class Pair:
    """A client and its endpoint, from the moment they are connected to the end of both directions."""

    __slots__ = ("_done", "_failure", "_splicer", "active_at", "client", "down", "end", "endpoint", "up")

    def __init__(
        self, client: socket.socket, endpoint: socket.socket, splicer: Splicer, done: Callable[[Pair], None]
    ) -> None:
        self.client = client
        self.endpoint = endpoint
        self.up = Direction(client, endpoint, (End.CLIENT_RESET, End.ENDPOINT_RESET), splicer.shared)
        self.down = Direction(endpoint, client, (End.ENDPOINT_RESET, End.CLIENT_RESET), splicer.shared)
        self.end: End | None = None
        self.active_at = monotonic()
        self._failure: End | None = None
        self._splicer = splicer
        self._done = done

    def ready(self, fd: int, events: int) -> None:
        """Note what the kernel says about one of the two sockets."""
        of_client = fd == self.client.fileno()
        reading, writing = (self.up, self.down) if of_client else (self.down, self.up)
        if events & READABLE:
            reading.can_read = True
        if events & WRITABLE:
            writing.can_write = True
        if events & FAILED and self._failure is None:
            self._failure = End.CLIENT_RESET if of_client else End.ENDPOINT_RESET
        self._splicer.readiness.queue(self)

    def step(self) -> bool:
        """Move a bounded amount each way. What a side sent before it reset is still offered to the other one."""
        if self.end:
            return False
        up, down = self.up, self.down
        moved_up, moved_down = up.moved, down.moved
        more = up.step() | down.step()
        self._splicer.moved(self, up.moved - moved_up, down.moved - moved_down)
        failure = self._failure or up.failure or down.failure
        if failure is None:
            up.pass_on_end()
            down.pass_on_end()
            failure = up.failure or down.failure
        if failure is not None and not more:
            self.abort(failure)
        elif up.shut and down.shut and failure is None:
            self._finish(End.CLOSED, socket.socket.close)
        return more and self.end is None

    def abort(self, end: End) -> None:
        """End both sides with a RST."""
        self._finish(end, reset)

    def _finish(self, end: End, close: Callable[[socket.socket], None]) -> None:
        if self.end:
            return
        self.end = end
        for sock in (self.client, self.endpoint):
            self._splicer.readiness.forget(sock.fileno())
            close(sock)
        self.up.drop()
        self.down.drop()
        del self._splicer.pairs[self]
        self._done(self)


class Splicer:
    """All pairs of a relay: what they share, and the limit for idle ones."""

    __slots__ = ("_counters", "_idle_limit_s", "_loop", "_timer", "pairs", "readiness", "shared")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, readiness: Readiness, counters: RelayCounters, idle_limit_s: float
    ) -> None:
        self.readiness = readiness
        self.pairs: OrderedDict[Pair, None] = OrderedDict()  # the one that was idle longest stands first
        self.shared = Shared(memoryview(bytearray(HELD_BYTES)), Pipes())
        self._counters = counters
        self._idle_limit_s = idle_limit_s
        self._loop = loop
        self._timer = loop.call_later(idle_limit_s / IDLE_CHECKS, self._end_idle)

    def join(self, client: socket.socket, endpoint: socket.socket, done: Callable[[Pair], None]) -> None:
        """Take over both sockets, non-blocking and connected; `done` is called once, when both are closed."""
        pair = Pair(client, endpoint, self, done)
        self.pairs[pair] = None
        self.readiness.watch(client.fileno(), pair)
        self.readiness.watch(endpoint.fileno(), pair)

    def moved(self, pair: Pair, sent: int, received: int) -> None:
        """Count what a pair has moved, which is what keeps it from being idle."""
        if sent or received:
            self._counters.sent_bytes += sent
            self._counters.received_bytes += received
            pair.active_at = monotonic()
            self.pairs.move_to_end(pair)

    def close(self) -> None:
        """End whatever is left."""
        self._timer.cancel()
        while self.pairs:
            next(iter(self.pairs)).abort(End.DRAINED)
        self.shared.pipes.close()

    def _end_idle(self) -> None:
        """End those that are over the limit, a few at a time."""
        oldest = monotonic() - self._idle_limit_s
        delay_s = self._idle_limit_s / IDLE_CHECKS
        for count in range(len(self.pairs)):
            pair = next(iter(self.pairs))
            if pair.active_at > oldest:
                break
            if count == IDLE_AT_ONCE:
                delay_s = 0.0
                break
            pair.abort(End.IDLE)
        self._timer = self._loop.call_later(delay_s, self._end_idle)
