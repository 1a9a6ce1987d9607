"""Carries out what `query/forward.py` decides, and is what others ask of forwarding. door: the loop's clock and timers.

What is decided is decided there; sockets are in `ports` (UDP) and `connections` (TCP). Here stand one timer for
everything that is due, whom never to ask, and what the relay, the admin port and the running of the resolver want.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from math import inf
from typing import Final, Literal, NamedTuple

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.query.asking import Client
from meshdns.resolver.query.cache import Cache, CacheCounters
from meshdns.resolver.query.complete import finder
from meshdns.resolver.query.effects import Answer, CheckLoop, Effect, Forget, ForwardCounters, Outcome, Send, Source
from meshdns.resolver.query.exchange import Loss, Try
from meshdns.resolver.query.fastpath import FastPath
from meshdns.resolver.query.plain import Plain, SendTo
from meshdns.resolver.query.reply import addresses, read
from meshdns.resolver.query.servers import Server, Servers, Upstream
from meshdns.resolver.query.wire import STREAM_MOST_BYTES, Malformed, parse
from meshdns.resolver.serve.connections import Connections
from meshdns.resolver.serve.ports import Ports
from meshdns.resolver.table.live import Table
from meshdns.resolver.table.names import to_key

CACHE_MAX_BYTES: Final = 8 << 20

TIMER_GRAIN_S: Final = 0.005
"""What is due is looked for no more often than this, however many queries are under way."""

_A: Final = 1
_AAAA: Final = 28
_IN: Final = b"\0\1"

Address = IPv4Address | IPv6Address

logger = logging.getLogger("meshdns.resolver")


class LookupFailedError(Exception):
    """No upstream gave a good answer; the text says what they gave instead."""


class Resolved(NamedTuple):
    """What `Forwarder.resolve` found: no addresses when the name has none of that family."""

    addresses: tuple[Address, ...]
    ttl_s: int


class ServerState(NamedTuple):
    """An upstream as metrics and `explain` show it. `zone` is empty for the servers of every other name."""

    name: str
    zone: bytes
    attempts: int
    failures: int
    round_trip_s: float | None
    healthy: bool
    looping: bool


class Forwarder:
    """Forwards queries, and resolves names for the relay."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        table: Callable[[], Table],
        cache_entries: int,
        stale_for_s: float,
        listeners: Iterable[tuple[Address, int]] = (),
    ) -> None:
        """Start without upstreams. `table` gives the current table; `listeners` are our own addresses, never asked."""
        self._loop = loop
        self._listeners = tuple(listeners)
        self._forwarding = FastPath(Servers(), Cache(cache_entries, CACHE_MAX_BYTES, stale_for_s), finder(table))
        self._ports: dict[Server, Ports] = {}
        self._retired: list[Ports] = []
        self._strangers_of_closed = 0
        self._own_addresses: set[Hashable] = set()
        self._connections = Connections(loop, self._heard, self._lost)
        self._due: deque[Effect] = deque()
        self._carrying = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = inf

    # What serving and the relay ask for.

    @property
    def look(self) -> Callable[[bytes, Table, float], bytes | Plain | None]:
        """What answers packets from the cache, or finds that they are plain, without their being parsed."""
        return self._forwarding.look

    def ask(self, plain: Plain, client: Hashable, send: SendTo) -> None:
        """Ask a plain query for `client`; `send` gets its finished reply once."""
        plain.who, plain.send = client, send
        if client in self._own_addresses or not self._forwarding.ask(plain):
            forward = plain.forward()
            self.submit(plain.packet, forward, client, forward.limit, plain.respond)
            return
        self._send(plain)
        if self._forwarding.wake_s < self._timer_s:
            self._arm()

    def submit(
        self, packet: bytes, forward: Forward, client: Hashable, limit: int, respond: Callable[[bytes], None]
    ) -> None:
        """Ask `packet`, which `forward` describes, for `client`.

        `respond` gets the finished reply to it once, at most `limit` bytes; where it is only a part of what the client
        gets (`forward.chase`), it is whole, and cut by `forward.complete`.
        """
        if limit != forward.limit or packet is not forward.packet:
            forward = replace(forward, packet=packet, limit=limit)
        asked = Client(forward, client, respond, self._loop.time())
        server = self._server_behind(client) if client in self._own_addresses else None
        outcome = self._forwarding.submit(asked) if server is None else self._forwarding.came_back(asked, server)
        if isinstance(outcome, bytes):
            respond(outcome)
        elif outcome:
            self._carry_out(outcome)

    async def resolve(self, name: str, family: Literal[4, 6]) -> Resolved:
        """Return the addresses that upstreams know for a name, never those of our own table.

        Raises LookupFailedError when no upstream gives a good answer, or when `name` is none.
        """
        qtype = _A if family == 4 else _AAAA  # noqa: PLR2004 - IPv4
        key = to_key(name)
        if key is None:
            raise LookupFailedError(f"cannot resolve {name!r}: it is not a name")
        kind = qtype.to_bytes(2, "big") + _IN
        packet = b"\0\0\1\0\0\1\0\0\0\0\0\0" + key + kind
        query = parse(packet)
        if isinstance(query, Malformed):
            raise LookupFailedError(f"cannot resolve {name!r}: it is not a name")
        answered: asyncio.Future[bytes] = self._loop.create_future()
        client = Client(
            Forward(packet, query, STREAM_MOST_BYTES, whole=False),
            "relay",
            lambda message: None if answered.done() else answered.set_result(message),
            self._loop.time(),
            real=True,
        )
        outcome = self._forwarding.submit(client)
        if not isinstance(outcome, bytes):
            self._carry_out(outcome)
            outcome = await answered
        reply = read(outcome, key, kind)
        if reply is None or not reply.good:
            raise LookupFailedError(f"cannot resolve {name}: RCODE {outcome[3] & 15} from upstream")
        packed = {rdata: None for rdata in addresses(reply, qtype) if len(rdata) == (4 if qtype == _A else 16)}
        made: type[Address] = IPv4Address if qtype == _A else IPv6Address
        return Resolved(tuple(made(rdata) for rdata in packed), reply.lifetime_s)

    # What running the resolver asks for.

    def replace_upstreams(
        self, upstreams: Iterable[Upstream], zones: Mapping[str, Iterable[Upstream]] | None = None
    ) -> tuple[Upstream, ...]:
        """Ask these from now on and forget what others said; return those refused, as they are our own listeners.

        `zones`: conditional forwarding, by suffix; None leaves it as it is. What is known of a server stays with it.
        """
        known = {server.upstream: server for server in self._forwarding.servers}
        refused: dict[Upstream, None] = {}

        def made(wanted: Iterable[Upstream]) -> tuple[Server, ...]:
            servers = []
            for upstream in dict.fromkeys(wanted):
                if self._is_own(upstream):
                    refused[upstream] = None
                else:
                    servers.append(known.setdefault(upstream, Server(upstream)))
            return tuple(servers)

        default = made(upstreams)
        if zones is None:
            by_zone = self._forwarding.servers.zones
        else:
            by_zone = {key: made(wanted) for name, wanted in zones.items() if (key := to_key(name)) is not None}
        before = self._forwarding.servers
        if (before.default, before.zones) == (default, by_zone):
            return tuple(refused)
        self._forwarding.replace(Servers(default, by_zone))
        current = set(self._forwarding.servers)
        for server in [server for server in self._ports if server not in current]:
            retired = self._ports.pop(server)
            retired.retire()
            self._retired.append(retired)
        self._strangers_of_closed += sum(ports.strangers for ports in self._retired if not ports.is_open)
        self._retired = [ports for ports in self._retired if ports.is_open]
        return tuple(refused)

    def flush(self) -> None:
        """Forget every cached answer."""
        self._forwarding.flush()

    def close(self) -> None:
        """Close every socket; queries under way get no reply."""
        if self._timer is not None:
            self._timer.cancel()
        for ports in (*self._ports.values(), *self._retired):
            ports.close()
        self._connections.close()

    # What is seen from outside.

    @property
    def ready(self) -> bool:
        """Whether there is an upstream for every name."""
        return bool(self._forwarding.servers.default)

    @property
    def counters(self) -> ForwardCounters:
        """What forwarding did so far."""
        return self._forwarding.counters

    @property
    def cache_counters(self) -> CacheCounters:
        """What the cache did so far."""
        return self._forwarding.cache.counters

    @property
    def cache(self) -> Cache:
        """The cache, to be looked at."""
        return self._forwarding.cache

    @property
    def in_flight(self) -> int:
        """How many queries wait for an upstream."""
        return self._forwarding.in_flight

    @property
    def strangers(self) -> int:
        """How many messages came under an id that nobody waits for: late, twice, or forged."""
        known = (*self._ports.values(), *self._retired)
        return self._strangers_of_closed + sum(ports.strangers for ports in known)

    def observe(self, timed: Callable[[Source, float], None], told: Callable[[Outcome], None] | None = None) -> None:
        """Have `timed` called for every reply with where it came from and how many seconds that took.

        `told` gets all about those that the fast path does not give.
        """
        self._forwarding.timed, self._forwarding.observe = timed, told

    def servers(self) -> list[ServerState]:
        """Return every upstream and how it does."""
        now = self._loop.time()
        servers = self._forwarding.servers
        grouped = [(b"", servers.default), *servers.zones.items()]
        return [
            ServerState(
                server.name,
                zone,
                server.attempts,
                server.failures,
                server.round_trip_s,
                server.healthy,
                server.loops_until_s > now,
            )
            for zone, group in grouped
            for server in group
        ]

    # Carrying out.

    def _carry_out(self, effects: list[Effect]) -> None:
        """Do what is asked, and what comes of it, in order; an event within is taken up after what is under way."""
        due = self._due
        due.extend(effects)
        if self._carrying:
            return
        self._carrying = True
        try:
            while due:
                effect = due.popleft()
                if isinstance(effect, Answer):
                    effect.respond(effect.message)
                elif isinstance(effect, Send):
                    self._send(effect.attempt)
                elif isinstance(effect, Forget):
                    self._forget(effect.attempt)
                elif isinstance(effect, CheckLoop):
                    self._check_loop(effect)
                else:
                    logger.warning("%s leads back to this resolver: it is not asked for a minute", effect.server.name)
        finally:
            self._carrying = False
        if self._forwarding.wake_s < self._timer_s:
            self._arm()

    def _send(self, attempt: Try) -> None:
        if attempt.stream:
            self._connections.ask(attempt)
            return
        ports = self._ports.get(attempt.server)
        if ports is None:
            ports = Ports(self._loop, attempt.server.upstream, self._own_addresses, self._heard, self._lost)
            self._ports[attempt.server] = ports
        loss = ports.send(attempt, attempt.sent_s)
        if loss is not None:
            self._lost(attempt, loss)

    def _forget(self, attempt: Try) -> None:
        attempt.over = True
        if attempt.stop is not None:
            attempt.stop()
            attempt.stop = None

    def _heard(self, attempt: Try, message: bytes) -> None:
        now = self._loop.time()
        if isinstance(attempt, Plain):
            answer = self._forwarding.answer(attempt, message)
            if answer is not None:
                attempt.send(attempt.who, answer)
                self._forwarding.settled(attempt, now)
                return
        self._carry_out(self._forwarding.heard(attempt, message, now))

    def _lost(self, attempt: Try, loss: Loss) -> None:
        self._carry_out(self._forwarding.lost(attempt, loss, self._loop.time()))

    def _check_loop(self, check: CheckLoop) -> None:
        """Ask for a name that no server answers by itself, unlike those under `.invalid` (RFC 6761)."""
        name = b"\x20" + os.urandom(16).hex().encode() + b"\x0cmeshdns-loop\0"
        self._carry_out(self._forwarding.check_loop(check.server, name, self._loop.time()))

    def _arm(self) -> None:
        """Have the one timer go off when the next thing is due."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = self._forwarding.wake_s
        self._timer = None
        if self._timer_s < inf:
            self._timer = self._loop.call_at(max(self._timer_s, self._loop.time() + TIMER_GRAIN_S), self._wake)

    def _wake(self) -> None:
        self._timer_s = inf
        self._carry_out(self._forwarding.wake(self._loop.time()))

    # Whom not to ask.

    def _server_behind(self, client: Hashable) -> Server | None:
        """Return the server whose socket of ours a query comes from: it came back without a detour."""
        return next((server for server, ports in self._ports.items() if ports.owns(client)), None)

    def _is_own(self, upstream: Upstream) -> bool:
        return any(
            port == upstream.port
            and (address == upstream.address or (address.is_unspecified and upstream.address.is_loopback))
            for address, port in self._listeners
        )
