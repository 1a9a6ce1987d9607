"""Accepting clients, as long as there is room for them.

Decides: when nobody is accepted, and when that is over; who waits does so in the kernel's backlog. Never here: what is
done with a client. accept(2).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final

from meshdns.relay.counters import RelayCounters
from meshdns.relay.readiness import Readiness

PAUSE_S: Final = 0.2
"""How long nobody is accepted when descriptors are short: longer than it takes `dial` to try again, so that clients who
were accepted already get the next ones."""

_OF_ONE_CLIENT: Final = frozenset({
    errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENONET, errno.ENOPROTOOPT, errno.EOPNOTSUPP,
})  # fmt: skip
"""What accept(2), "Error handling", has one try again after: the next client in the backlog is another one."""


class Acceptor:
    """The listening sockets. `has_room` is asked before each accept, `arrived` is given each client."""

    __slots__ = ("_arrived", "_counters", "_has_room", "_listeners", "_loop", "_paused", "_readiness", "_waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        readiness: Readiness,
        listeners: Sequence[socket.socket],
        counters: RelayCounters,
        has_room: Callable[[], bool],
        arrived: Callable[[socket.socket, tuple[str, int]], None],
    ) -> None:
        self._counters = counters
        self._loop = loop
        self._readiness = readiness
        self._listeners = list(listeners)
        self._has_room = has_room
        self._arrived = arrived
        self._waiting = set(self._listeners)  # those that may have clients in their backlog
        self._paused: asyncio.TimerHandle | None = None
        for listener in listeners:
            readiness.watch(listener.fileno(), self)

    def ready(self, fd: int, events: int) -> None:  # noqa: ARG002 - every listener is looked at
        """Clients are waiting."""
        self._waiting.update(self._listeners)
        self._readiness.queue(self)

    def step(self) -> bool:
        """Accept one client of each listener."""
        for listener in list(self._waiting):
            if self._paused is not None:
                return False
            if not self._has_room():
                self._counters.accept_pauses += 1
                return False
            self._accept(listener)
        return bool(self._waiting)

    def pause(self) -> None:
        """Accept nobody for a moment, from now on."""
        if self._paused is None:
            self._counters.accept_pauses += 1
        else:
            self._paused.cancel()
        self._paused = self._loop.call_later(PAUSE_S, self._resume)

    def room_again(self) -> None:
        """Look at the backlog again if somebody may be waiting there."""
        if self._waiting and self._paused is None:
            self._readiness.queue(self)

    def close(self) -> None:
        """Listen no more; the kernel resets who is still waiting."""
        if self._paused is not None:
            self._paused.cancel()
        for listener in self._listeners:
            self._readiness.forget(listener.fileno())
            listener.close()
        self._listeners.clear()
        self._waiting.clear()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, peer = listener.accept()
        except BlockingIOError:
            self._waiting.discard(listener)
        except OSError as error:
            if error.errno not in _OF_ONE_CLIENT:
                self.pause()  # descriptors or memory are short
        else:
            client.setblocking(False)
            self._arrived(client, peer[:2])

    def _resume(self) -> None:
        self._paused = None
        self._readiness.queue(self)
