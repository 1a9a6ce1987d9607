"""The fast path of forwarding: one object for a query that is plain, from its packet to its answer.

Nearly every query that is forwarded asks as most do, while nothing is wrong with any server, and gets one good answer
before anything is due. Such a one needs no exchange: its first try is all there is. Whatever else comes (the same
question from another client, silence, an error, a reply that has to be cut or completed) makes it an exchange, with
that try in it, as if it had been one from the start, and `forward` goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import cast

from meshdns.resolver.query.ask import key_of, ordinary_message, question_of
from meshdns.resolver.query.asking import Asking, Client
from meshdns.resolver.query.cache import Cache, Key
from meshdns.resolver.query.complete import Find
from meshdns.resolver.query.effects import Effect
from meshdns.resolver.query.exchange import Loss, Try
from meshdns.resolver.query.forward import CLIENT_PART, IN_FLIGHT_MAX, Forwarding
from meshdns.resolver.query.own import may_be_ours
from meshdns.resolver.query.plain import Plain
from meshdns.resolver.query.reply import read
from meshdns.resolver.query.servers import Server, Servers
from meshdns.resolver.table.live import Table


class FastPath(Forwarding):
    """Forwarding with a fast path. What is on it are the first tries of plain queries, by key."""

    def __init__(self, servers: Servers, cache: Cache, find: Find, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        """Do as `Forwarding` does; as long as fewer are in flight than one client may have, nobody counts places."""
        super().__init__(servers, cache, find, in_flight_max)
        self._plain: dict[Key, Plain] = {}
        self._few = in_flight_max // CLIENT_PART

    @property
    def in_flight(self) -> int:
        """How many queries wait for an upstream."""
        return self._seated + len(self._plain)

    # The fast path.

    def look(self, packet: bytes, table: Table, now: float) -> bytes | Plain | None:
        """Return the answer from the cache or a plain query to be asked; None for whatever needs a closer look."""
        found = self.cache.at_once(packet, table.common.generation, now)
        if isinstance(found, Plain):
            labels = found.labels()
            if labels is None or may_be_ours(found.name, labels, table):
                return None
            found.not_ours_in = table.common.generation
            found.sent_s = now
        return found

    def ask(self, plain: Plain) -> bool:
        """Begin to ask; False if it is not as plain as it looked, and is to be submitted."""
        key = plain.key
        if key in self._plain or key in self._joinable or self._loop_checks or self._is_crowded():
            return False
        servers = self.servers.unsorted(plain.name, plain.sent_s)
        if not servers:
            return False
        self.cache.counters.misses += 1
        self.counters.exchanges += 1
        plain.begun(servers, ordinary_message(plain.packet, plain.end, key))
        self._plain[key] = plain
        self.wake_s = min(self.wake_s, plain.sent_s + plain.wait_s)
        return True

    def answer(self, plain: Plain, message: bytes) -> bytes | None:
        """Return the finished reply if `message` is a good one that needs no more; None: it is to be `heard`.

        It is to be sent before it is `settled`, for whoever asked waits.
        """
        if plain.exchange is not None:
            return None
        reply = read(message, plain.name, plain.kind)
        if reply is None or not reply.good or reply.truncated or reply.options:
            return None
        for alias in reply.chain:
            if self._find(alias.target, plain.kind) is not None:
                return None
        plain.reply = reply
        return plain.answer(reply)

    def settled(self, plain: Plain, now: float) -> None:
        """Take note that the answer was given."""
        server, reply, took_s = plain.server, plain.reply, now - plain.sent_s
        server.answered(took_s, in_time=took_s <= plain.wait_s)
        plain.open, plain.over = False, True
        del self._plain[plain.key]
        self.cache.keep(plain.key, reply, server.name, now, plain.not_ours_in)
        self._count("upstream", plain.kind[0] << 8 | plain.kind[1], reply.rcode, took_s)

    # Off it.

    def submit(self, client: Client) -> bytes | list[Effect]:
        """Take a client's query, as `Forwarding` does; it may join one that was plain till now."""
        if self._plain:
            if self._is_crowded():
                self._leave(self._plain.values())
            plain = self._plain.get(key_of(client.forward) or b"")
            if plain is not None:
                self._begun(plain)
        return super().submit(client)

    def heard(self, attempt: Try, message: bytes, now: float) -> list[Effect]:
        """Take a message, as `Forwarding` does."""
        if attempt.exchange is None:
            self._begun(cast("Plain", attempt))
        return super().heard(attempt, message, now)

    def lost(self, attempt: Try, loss: Loss, now: float) -> list[Effect]:
        """Take note of a loss, as `Forwarding` does."""
        if attempt.exchange is None:
            self._begun(cast("Plain", attempt))
        return super().lost(attempt, loss, now)

    def wake(self, now: float) -> list[Effect]:
        """Do what is due by the clock."""
        self._leave(plain for plain in self._plain.values() if plain.sent_s + plain.wait_s <= now)
        effects = super().wake(now)
        due_s = min((plain.sent_s + plain.wait_s for plain in self._plain.values()), default=inf)
        self.wake_s = min(self.wake_s, due_s)
        return effects

    def flush(self) -> None:
        """Forget every answer, and keep none of those that are under way."""
        self._leave(self._plain.values())
        super().flush()

    def came_back(self, client: Client, server: Server) -> list[Effect]:
        """Leave the server alone for a while, as `Forwarding` does."""
        self._leave(self._plain.values())
        return super().came_back(client, server)

    def _is_crowded(self) -> bool:
        """Whether limits may be near, for which only exchanges and their clients are counted."""
        return len(self._plain) + max(self._seated, len(self._running)) >= self._few

    def _leave(self, plains: Iterable[Plain]) -> None:
        for plain in tuple(plains):
            self._begun(plain)

    def _begun(self, plain: Plain) -> None:
        """Make an exchange of a plain query, as if it had been one from the start."""
        del self._plain[plain.key]
        forward = plain.forward()
        question = question_of(forward, plain.key)
        asking = Asking(question, plain.servers, plain.sent_s, plain.key, plain.not_ours_in)
        asking.begun(plain)
        self._joinable[plain.key] = asking
        self._running.add(asking)
        self._seat(Client(forward, plain.who, plain.respond, plain.sent_s), asking)
        self._schedule(asking)
