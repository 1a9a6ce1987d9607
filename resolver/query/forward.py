"""Forwarding, all of it but the sockets: an event and the time go in, effects come out.

Decided here: what may be answered from the cache, which queries are asked once for several clients, who may still be
taken in, what becomes of a settled exchange, and what a client is told when there is no answer. Which server is tried
when is `exchange`'s business. Nothing here reads a clock, draws a number or touches a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Final, cast

from meshdns.resolver.query import tell
from meshdns.resolver.query.answer import Forward
from meshdns.resolver.query.ask import key_of, loop_question, question_of
from meshdns.resolver.query.asking import Asking, Client
from meshdns.resolver.query.cache import POPULAR_HITS, Cache, Key
from meshdns.resolver.query.complete import Find
from meshdns.resolver.query.decision import COUNTED_TYPES
from meshdns.resolver.query.effects import (
    Answer,
    CheckLoop,
    Effect,
    Forget,
    ForwardCounters,
    Loops,
    Outcome,
    Send,
    Source,
)
from meshdns.resolver.query.entry import Entry
from meshdns.resolver.query.exchange import Loss, Try
from meshdns.resolver.query.servers import Server, Servers
from meshdns.resolver.query.wire import STREAM_MOST_BYTES

IN_FLIGHT_MAX: Final = 4096
"""Queries that wait for an upstream, and exchanges that run."""

CLIENT_PART: Final = 4
"""One client may hold a quarter of the places."""

REFRESHES_MAX: Final = 256
"""Exchanges that run for the cache alone."""

STALE_AFTER_S: Final = 1.8
"""RFC 8767, section 5: the client response timer."""

RECHECK_S: Final = 30.0
"""After a refresh failed the old answer is given at once for so long, while upstreams are asked behind it."""

LOOP_CHECK_INTERVAL_S: Final = 30.0
"""How often a silent server is suspected of leading back to us."""


class Forwarding:
    """The state of all forwarding.

    When set, `timed` is told of every answer where it came from and how many seconds that took, `observe` all about
    those that clients of the listeners do not get from the fast path.
    """

    def __init__(self, servers: Servers, cache: Cache, find: Find, in_flight_max: int = IN_FLIGHT_MAX) -> None:
        """Ask `servers`, keep answers in `cache`, complete CNAMEs that lead to names of ours with `find`."""
        self.servers = servers
        self.cache = cache
        self.counters = ForwardCounters()
        self.timed: Callable[[Source, float], None] | None = None
        self.observe: Callable[[Outcome], None] | None = None
        self.wake_s = inf
        """When `wake` is to be called next; infinity for never."""
        self._find = find
        self._in_flight_max = in_flight_max
        self._places: dict[Hashable, int] = {}
        self._joinable: dict[Key, Asking] = {}
        self._running: set[Asking] = set()
        self._agenda: list[tuple[float, int, Asking]] = []
        self._ticket = count()
        self._refreshes = 0
        self._loop_checks: dict[bytes, Server] = {}
        self._seated = 0

    @property
    def in_flight(self) -> int:
        """How many queries wait for an upstream."""
        return self._seated

    # Events.

    def submit(self, client: Client) -> bytes | list[Effect]:
        """Take a client's query: return the finished reply, or what is to be done until the client gets it."""
        forward, now = client.forward, client.asked_s
        key = key_of(forward)
        if key is None:
            entry = asking = None
        else:
            entry = self.cache.find(key, now)
            if entry is not None and now < entry.fresh_until_s:
                message = self._fresh(forward, entry, now, real=client.real)
                if now < entry.refresh_at_s or entry.hits < POPULAR_HITS:
                    return message
                entry.refresh_at_s = inf
                return [Answer(client.respond, message), *self._refreshed(forward, key, entry, now)]
            if entry is not None and now < entry.failed_s + RECHECK_S:
                return self._behind(client, key, entry)
            asking = self._joinable.get(key)
        if self._loop_checks and forward.query.key in self._loop_checks:
            return self.came_back(client, self._loop_checks.pop(forward.query.key))
        if (
            self.in_flight >= self._in_flight_max
            or self._places.get(client.who, 0) >= self._in_flight_max // CLIENT_PART
        ):
            return self._overloaded(client, entry, now)
        self.cache.counters.misses += key is not None
        if asking is not None:
            self.counters.joined += 1
            self._seat(client, asking)
            return []
        return self._asked(client, key, entry, now)

    def heard(self, attempt: Try, message: bytes, now: float) -> list[Effect]:
        """Take a message that came under the try's id from its server; a try that is `over` after it brings no more."""
        asking = cast("Asking", attempt.exchange)
        following = asking.heard(attempt, message, now)
        if not attempt.over:
            self.counters.garbage += 1
        return self._carried_on(asking, following, [], now)

    def lost(self, attempt: Try, loss: Loss, now: float) -> list[Effect]:
        """Take note that the try cannot bring anything, and is over: refused, unreachable, closed."""
        asking = cast("Asking", attempt.exchange)
        following = asking.lost(attempt, loss, now)
        attempt.over = True
        return self._carried_on(asking, following, [], now)

    def wake(self, now: float) -> list[Effect]:
        """Do what is due by the clock."""
        effects: list[Effect] = []
        while self._agenda:
            due_s, _, asking = self._agenda[0]
            done = asking.settled and not asking.open_tries
            if due_s > now and not done:
                break
            heappop(self._agenda)
            if done:
                continue
            asking.scheduled_s = inf
            suspect = asking.trying
            following = asking.wake(now)
            if suspect is not None and suspect.failed and suspect.open:
                effects += self._suspected(suspect.server, now)
            if not asking.settled and asking.stale is not None and now >= asking.stale_at_s:
                effects += self._stale_for_all(asking, asking.stale, now)
            effects = self._carried_on(asking, following, effects, now)
            if asking.settled:
                effects += [Forget(attempt) for attempt in asking.tries if not attempt.over]
                asking.tries.clear()
            else:
                self._schedule(asking)
        self.wake_s = self._agenda[0][0] if self._agenda else inf
        return effects

    def replace(self, servers: Servers) -> None:
        """Ask these servers from now on, and forget what others said."""
        self.servers = servers
        self.flush()

    def flush(self) -> None:
        """Forget every answer, and keep none of those that are under way."""
        self.cache.flush()
        self._joinable.clear()
        for asking in self._running:
            asking.key, asking.stale, asking.stale_at_s = None, None, inf

    def check_loop(self, server: Server, name: bytes, now: float) -> list[Effect]:
        """Ask the server for `name`, which nobody else can know: if it comes back to us, the server leads to us."""
        self._loop_checks[name] = server
        asking = Asking(loop_question(name), (server,), now, None)
        return self._started(asking, now)

    def came_back(self, client: Client, server: Server) -> list[Effect]:
        """Leave the server alone for a while: what `client` asks is a query of ours that it got."""
        now = client.asked_s
        self.counters.loops += 1
        server.looped(now)
        refusal = self._told(client.forward, now - client.asked_s, *tell.own_query(client, server))
        effects: list[Effect] = [Answer(client.respond, refusal), Loops(server)]
        for asking in tuple(self._running):
            for attempt in tuple(asking.tries):
                if attempt.server is server and not attempt.over:
                    effects += [*self.lost(attempt, Loss.LOOP, now), Forget(attempt)]
        return effects

    # Taking a query in.

    def _fresh(self, forward: Forward, entry: Entry, now: float, *, real: bool = False) -> bytes:
        self.cache.counters.hits += 1
        entry.hits += 1
        entry.recent = True
        message = tell.kept(forward, entry, None if real else self._find, now)
        return self._told(forward, 0.0, message, "cache" if entry.good else "error", entry.reply.rcode, entry.server)

    def _behind(self, client: Client, key: Key, entry: Entry) -> list[Effect]:
        """Give the old answer at once, since upstreams failed a moment ago, and ask them behind it."""
        now = client.asked_s
        stale = Answer(client.respond, self._stale(client, entry, now))
        return [stale, *self._refreshed(client.forward, key, entry, now)]

    def _refreshed(self, forward: Forward, key: Key, entry: Entry, now: float) -> list[Effect]:
        """Ask for the cache alone."""
        order = self.servers.order(forward.query.key, now)
        if key in self._joinable or self._refreshes >= REFRESHES_MAX or not order.servers:
            return []
        self.cache.counters.refreshes += 1
        self._refreshes += 1
        asking = Asking(question_of(forward, key), order.servers, now, key, forward.not_ours_in)
        asking.refresh, asking.stale = True, entry
        self._joinable[key] = asking
        return self._started(asking, now)

    def _asked(self, client: Client, key: Key | None, entry: Entry | None, now: float) -> bytes | list[Effect]:
        forward = client.forward
        order = self.servers.order(forward.query.key, now)
        if not order.servers:
            return self._told(client.forward, now - client.asked_s, *tell.nobody_to_ask(client, order.looping))
        if len(self._running) >= self._in_flight_max:
            return self._overloaded(client, entry, now)
        asking = Asking(question_of(forward, key), order.servers, now, key, forward.not_ours_in)
        if key is not None:
            self._joinable[key] = asking
        if entry is not None:
            asking.stale, asking.stale_at_s = entry, now + STALE_AFTER_S
        self._seat(client, asking)
        effects = self._started(asking, now)
        if order.probe is not None and not asking.question.raw:
            effects.append(Send(asking.try_beside(order.probe, now)))
        return effects

    def _started(self, asking: Asking, now: float) -> list[Effect]:
        self.counters.exchanges += 1
        self._running.add(asking)
        attempt = asking.next_try(now)
        self._schedule(asking)
        return [Send(attempt)] if attempt is not None else []

    def _overloaded(self, client: Client, entry: Entry | None, now: float) -> bytes:
        self.counters.overloaded += 1
        if entry is not None:
            return self._stale(client, entry, now)
        return self._told(client.forward, now - client.asked_s, *tell.overloaded(client))

    def _suspected(self, server: Server, now: float) -> list[Effect]:
        if now < server.loop_check_at_s:
            return []
        server.loop_check_at_s = now + LOOP_CHECK_INTERVAL_S
        return [CheckLoop(server)]

    def _schedule(self, asking: Asking) -> None:
        wake_s = min(asking.try_at_s, asking.stale_at_s, asking.deadline_s)
        if wake_s < asking.scheduled_s:
            asking.scheduled_s = wake_s
            self.wake_s = min(self.wake_s, wake_s)
            heappush(self._agenda, (wake_s, next(self._ticket), asking))

    # What becomes of an exchange.

    def _carried_on(self, asking: Asking, following: Try | None, effects: list[Effect], now: float) -> list[Effect]:
        if following is not None:
            self.counters.truncated += following.stream and not asking.question.stream
            effects.append(Send(following))
            self._schedule(asking)
        if asking.settled:
            if asking in self._running:
                self._running.discard(asking)
                effects += self._settled(asking, now)
            for attempt in asking.tries:
                if not attempt.open and not attempt.over:  # it brought garbage, and could still have brought an answer
                    effects.append(Forget(attempt))
            if not asking.open_tries:
                asking.release()
        return effects

    def _settled(self, asking: Asking, now: float) -> list[Effect]:
        key, outcome, stale = asking.key, asking.outcome, asking.stale
        if self._loop_checks:
            self._loop_checks.pop(asking.question.key, None)
        self._refreshes -= asking.refresh
        if outcome is not None and outcome.good:
            stale = None
        if stale is not None:
            stale.failed_s = now
        if key is not None:
            self._joinable.pop(key, None)
            if outcome is not None and stale is None:
                by = asking.settled_by.name if asking.settled_by else ""
                self.cache.keep(key, outcome, by, now, asking.not_ours_in)
        if stale is not None:
            return self._stale_for_all(asking, stale, now)
        answers: list[Effect] = []
        for client in self._unseated(asking):
            message, source, rcode, server = tell.settled(client, asking, self._find)
            self._told(client.forward, now - client.asked_s, message, source, rcode, server)
            answers.append(Answer(client.respond, message))
        return answers

    def _stale_for_all(self, asking: Asking, entry: Entry, now: float) -> list[Effect]:
        asking.stale_at_s = inf
        entry.failed_s = now
        return [Answer(client.respond, self._stale(client, entry, now)) for client in self._unseated(asking)]

    def _stale(self, client: Client, entry: Entry, now: float) -> bytes:
        self.cache.counters.stale_hits += 1
        entry.recent = True
        message = entry.stale_answer(client.forward.packet, client.forward.query, tell.room(client.forward))
        took_s = now - client.asked_s
        return self._told(client.forward, took_s, message, "stale", entry.reply.rcode, entry.server)

    def _seat(self, client: Client, asking: Asking) -> None:
        asking.clients.append(client)
        self._seated += 1
        self._places[client.who] = self._places.get(client.who, 0) + 1

    def _unseated(self, asking: Asking) -> list[Client]:
        clients, asking.clients = asking.clients, []
        self._seated -= len(clients)
        for client in clients:
            left = self._places[client.who] - 1
            if left:
                self._places[client.who] = left
            else:
                del self._places[client.who]
        return clients

    def _told(self, forward: Forward, took_s: float, message: bytes, source: Source, rcode: int, server: str) -> bytes:
        """Count a reply and return it."""
        stream = forward.limit == STREAM_MOST_BYTES
        self._count(source, forward.query.qtype, rcode, took_s, stream=stream)
        if self.observe is not None:
            self.observe(Outcome(forward.query, stream, source, rcode, took_s, server))
        return message

    def _count(self, source: Source, qtype: int, rcode: int, took_s: float, *, stream: bool = False) -> None:
        kind = source, stream, qtype if qtype in COUNTED_TYPES else 0, rcode
        replies = self.counters.replies
        replies[kind] = replies.get(kind, 0) + 1
        if self.timed is not None:
            self.timed(source, took_s)
