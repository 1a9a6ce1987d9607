"""The addresses of endpoints that are names: asked upstream, kept for their TTL, the last good kept when that fails.

Decides: when a name is asked again, how long a connection waits for the answer, what is kept. Never here: how a name is
resolved (a coroutine that is passed in, and that must not answer from our own table), sockets, which address is taken.
Waiting for the second family: RFC 8305, section 3.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, Literal, Protocol

from meshdns.relay.address import Address

logger = logging.getLogger("meshdns.relay")

Family = Literal[4, 6]

TTL_MIN_S: Final = 1.0
"""A TTL of 0 would have every connection ask."""

TTL_MAX_S: Final = 3600.0
RETRY_S: Final = 5.0
"""After a failure the name is not asked for this long, as RFC 2308, section 7.1 allows (up to five minutes)."""

PATIENCE_S: Final = 0.5
"""How long a connection waits for a new answer when there is an old one."""

KNOWN_MAX: Final = 8192
"""Names times families that are kept; the one that was learnt first goes first, and is asked again when needed."""

RESOLUTION_DELAY_S: Final = 0.05
"""How long one family's addresses wait for the other family's, RFC 8305, section 3."""


class Resolved(Protocol):
    """What the resolver gives: no addresses when the name has none of that family. A failure it raises."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses, in the order of the answer."""

    @property
    def ttl_s(self) -> int:
        """How long they may be used."""


Resolve = Callable[[str, Family], Awaitable[Resolved]]
"""Its errors are its own: this package knows no resolver, and takes whatever it raises for a failure."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """A name's addresses by family."""

    v6: tuple[Address, ...] = ()
    v4: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.v6 or self.v4)


@dataclass(slots=True)
class _Known:
    """The last good answer, possibly none yet, and when to ask again."""

    addresses: tuple[Address, ...] = ()
    ask_at: float = 0.0


class Names:
    """The names of all endpoints that connections have asked for."""

    __slots__ = ("_asking", "_clock", "_known", "_resolve")

    def __init__(self, resolve: Resolve, clock: Callable[[], float] = monotonic) -> None:
        self._resolve = resolve
        self._clock = clock
        self._known: dict[tuple[str, Family], _Known] = {}
        self._asking: dict[tuple[str, Family], asyncio.Task[None]] = {}

    def last_good(self, name: str) -> Addresses:
        """Give what is known without asking, however old."""
        v6, v4 = self._known.get((name, 6)), self._known.get((name, 4))
        return Addresses(v6.addresses if v6 else (), v4.addresses if v4 else ())

    def fresh(self, name: str) -> Addresses | None:
        """Give what is known if nothing of it is to be asked again; None when `ask` is to be awaited."""
        now = self._clock()
        for family in _FAMILIES:
            known = self._known.get((name, family))
            if known is None or known.ask_at <= now:
                return None
        return self.last_good(name)

    async def ask(self, name: str) -> Addresses:
        """Ask for what is out of date, and give what is known as soon as it is good enough to begin with."""
        pending = {self._task(name, family) for family in _FAMILIES if self._is_due(name, family)}
        if self.last_good(name):
            if pending:
                await asyncio.wait(pending, timeout=PATIENCE_S)
            return self.last_good(name)
        while pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if pending and self.last_good(name):
                await asyncio.wait(pending, timeout=RESOLUTION_DELAY_S)
                break
        return self.last_good(name)

    def close(self) -> None:
        """Ask no more."""
        for task in self._asking.values():
            task.cancel()

    def _is_due(self, name: str, family: Family) -> bool:
        known = self._known.get((name, family))
        return known is None or known.ask_at <= self._clock()

    def _task(self, name: str, family: Family) -> asyncio.Task[None]:
        """Ask once for all connections that wait for it; a task of its own, for a connection may give up."""
        key = name, family
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.get_running_loop().create_task(self._refresh(name, family))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _refresh(self, name: str, family: Family) -> None:
        known = self._known.get((name, family))
        if known is None:
            known = self._remember(name, family)
        try:
            resolved = await self._resolve(name, family)
        except Exception as error:  # noqa: BLE001 - see `Resolve`: connections go on with the last good addresses
            logger.debug("cannot resolve %s: %r", name, error)
            known.ask_at = self._clock() + RETRY_S
        else:
            known.addresses = resolved.addresses
            known.ask_at = self._clock() + min(max(resolved.ttl_s, TTL_MIN_S), TTL_MAX_S)

    def _remember(self, name: str, family: Family) -> _Known:
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        known = self._known[name, family] = _Known()
        return known


_FAMILIES: Final[tuple[Family, Family]] = (6, 4)
