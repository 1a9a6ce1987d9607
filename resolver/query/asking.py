"""An exchange, and the clients that wait for what comes of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import inf

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.query.cache import Key
from meshdns.resolver.query.decision import NO_GENERATION
from meshdns.resolver.query.effects import Respond
from meshdns.resolver.query.entry import Entry
from meshdns.resolver.query.exchange import Exchange, Question
from meshdns.resolver.query.servers import Server


@dataclass(slots=True, eq=False)
class Client:
    """A query that waits: what is forwarded, who holds the place, and what takes the reply to what was forwarded.

    `real`: our own table must not be looked at, whatever the name leads to.
    """

    forward: Forward
    who: Hashable
    respond: Respond
    asked_s: float
    real: bool = False


class Asking(Exchange):
    """An exchange and those who wait for it.

    `key` is what its answer is kept and shared under. `stale` is given to the clients at `stale_at_s`, or when the
    exchange brings nothing. `refresh`: it runs for the cache alone. `scheduled_s` is when it is to be woken.
    `not_ours_in` is that of the query that began it.
    """

    __slots__ = ("clients", "key", "not_ours_in", "refresh", "scheduled_s", "stale", "stale_at_s")

    def __init__(
        self,
        question: Question,
        servers: tuple[Server, ...],
        now: float,
        key: Key | None,
        not_ours_in: int = NO_GENERATION,
    ) -> None:
        """Ask `servers`; without a key nobody joins and nothing is kept."""
        super().__init__(question, servers, now)
        self.not_ours_in = not_ours_in
        self.key = key
        self.clients: list[Client] = []
        self.stale: Entry | None = None
        self.stale_at_s = inf
        self.refresh = False
        self.scheduled_s = inf
