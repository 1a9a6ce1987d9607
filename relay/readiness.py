"""One epoll set of the relay's own inside the event loop's: how much the relay does before others get their turn.

The loop sees a single descriptor, however many connections there are. Sockets are watched edge-triggered, so a
connection costs one `epoll_ctl` in its life; whoever still has work queues up here and gets a step at a time until the
turn's time is used up, and the rest waits for the loop's next turn, behind DNS. epoll(7), "Triggered notification".

Never here: what a watcher does with its sockets.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from time import monotonic
from typing import Final, Protocol

TURN_S: Final = 0.00015
"""What a turn may take before the loop looks at its other sockets; the step that is being done is finished."""

EVENTS_PER_TURN: Final = 64

READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
FAILED: Final = select.EPOLLERR
_EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Watcher(Protocol):
    """Who is told that a descriptor may have become readable or writable: too often perhaps, never too rarely."""

    def ready(self, fd: int, events: int) -> None:
        """Note it, or act on it if that is quick; long work is for `step`."""


class Worker(Protocol):
    """Who has work that is done in steps."""

    def step(self) -> bool:
        """Do a bounded piece of work; True while there is more that can be done at once."""


class Readiness:
    """The relay's sockets and its queue of work. `close` it in the loop that made it."""

    __slots__ = ("_epoll", "_loop", "_queued", "_scheduled", "_watchers", "_work")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._work: deque[Worker] = deque()
        self._queued: set[Worker] = set()
        self._scheduled = False
        loop.add_reader(self._epoll.fileno(), self._readable)

    def watch(self, fd: int, watcher: Watcher) -> None:
        """Tell `watcher` about edges of `fd` from now on; a watched descriptor gets a new watcher by the same call."""
        if fd not in self._watchers:
            self._epoll.register(fd, _EDGES)
        self._watchers[fd] = watcher

    def forget(self, fd: int) -> None:
        """Watch it no longer. To be called before it is closed."""
        if self._watchers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def queue(self, worker: Worker) -> None:
        """Give it steps until it says that nothing is left; queued twice is queued once."""
        if worker not in self._queued:
            self._queued.add(worker)
            self._work.append(worker)
            self._wake()

    def close(self) -> None:
        """Watch nothing any more; a second time does nothing."""
        if self._epoll.closed:
            return
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._watchers.clear()
        self._work.clear()
        self._queued.clear()

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _readable(self) -> None:
        """Take a turn, unless one is coming anyway: one per turn of the loop is what bounds the delay of others."""
        if not self._scheduled:
            self._turn()

    def _turn(self) -> None:
        self._scheduled = False
        if self._epoll.closed:
            return
        until = monotonic() + TURN_S
        for fd, events in self._epoll.poll(0, EVENTS_PER_TURN):
            watcher = self._watchers.get(fd)
            if watcher is not None:  # gone since: an earlier event of this turn closed it
                watcher.ready(fd, events)
        work = self._work
        while work:
            worker = work.popleft()
            if worker.step():
                work.append(worker)
            else:
                self._queued.discard(worker)
            if monotonic() >= until:
                break
        if work:
            self._wake()
