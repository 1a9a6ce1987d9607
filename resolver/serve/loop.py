"""An asyncio loop that answers datagrams while it waits. door: epoll.

At one query at a time asyncio's own turn (an event, a handle, a context, a look at the clock and the timers) costs more
than the answer does. Here the wait itself runs whoever reads datagrams, and comes back to asyncio when something else
is ready, a timer is due, or something was scheduled. Everything else about the loop is asyncio's own.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from asyncio import Handle, TimerHandle
from collections.abc import Callable
from contextvars import Context
from typing import Final, TypeVarTuple

Turn = Callable[[], None]
"""Does a bounded piece of work on a readable socket. What it schedules runs when it is done, as from any callback."""

EVENTS_MOST: Final = 16

_Ts = TypeVarTuple("_Ts")


class _AnsweringSelector(selectors.EpollSelector):
    """asyncio's selector, itself watched beside the listeners' sockets: an epoll descriptor can be polled."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        """Watch no socket yet; `failed` is told the errors of turns, which end no loop.

        `alone`: asyncio has nothing to do until its next timer.
        """
        super().__init__()
        self.turns: dict[int, Turn] = {}
        self.failed = failed
        self.alone = True
        self.outer: Final = select.epoll()
        self.outer.register(super().fileno(), select.EPOLLIN)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.turns:
            return super().select(timeout)
        turns, poll = self.turns, self.outer.poll
        deadline = None if timeout is None else time.monotonic() + timeout
        self.alone = True
        while self.alone:
            events = poll(timeout, EVENTS_MOST)
            if not events:
                break
            for descriptor, _ in events:
                turn = turns.get(descriptor)
                if turn is None:
                    self.alone = False
                    continue
                try:
                    turn()
                except Exception as error:  # noqa: BLE001 - whatever it is ends no loop, as with asyncio's own callbacks
                    self.failed(error)
            if deadline is not None:
                timeout = deadline - time.monotonic()
                if timeout <= 0:
                    break
        return super().select(0)

    def close(self) -> None:
        self.outer.close()
        super().close()


class AnsweringLoop(asyncio.SelectorEventLoop):
    """`asyncio.Runner(loop_factory=AnsweringLoop)`."""

    def __init__(self) -> None:
        self._answering: Final = _AnsweringSelector(self._turn_failed)
        super().__init__(self._answering)

    def add_turn(self, descriptor: int, turn: Turn) -> None:
        """Run `turn` whenever the descriptor can be read."""
        self._answering.turns[descriptor] = turn
        self._answering.outer.register(descriptor, select.EPOLLIN)

    def remove_turn(self, descriptor: int) -> None:
        """Watch the descriptor no longer; it must still be open."""
        if self._answering.turns.pop(descriptor, None) is not None:
            self._answering.outer.unregister(descriptor)

    def call_soon(self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None) -> Handle:
        """Do what asyncio's does, and have the wait end for it."""
        self._answering.alone = False
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> TimerHandle:
        """Do what asyncio's does, and have the wait end for it: it does not know of this timer."""
        self._answering.alone = False
        return super().call_at(when, callback, *args, context=context)

    def _turn_failed(self, error: Exception) -> None:
        self.call_exception_handler({"message": "error in a listener's turn", "exception": error})
