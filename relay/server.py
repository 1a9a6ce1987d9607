"""The relay: sees each redirected connection to its endpoint.

Decides: what happens to clients that are not forwarded, what is counted and said. Never here: which endpoint an address
stands for (`route`), when clients are accepted (`accept`), how an endpoint is reached (`dial`), how bytes move
(`splice`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import resource
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from time import monotonic
from typing import Final

from meshdns.relay.accept import Acceptor
from meshdns.relay.address import Address, SocketAddress, socket_text
from meshdns.relay.attempt import Attempt, Failure
from meshdns.relay.connection import Connection, access_line
from meshdns.relay.counters import RelayCounters
from meshdns.relay.dial import Dial, Dialler
from meshdns.relay.direction import End, reset
from meshdns.relay.listen import original_destination, own_address
from meshdns.relay.names import Names, Resolve
from meshdns.relay.order import Rest
from meshdns.relay.readiness import Readiness
from meshdns.relay.route import Destination, Forward, PassThrough, Probe, Refusal, Refuse, Routes, Target
from meshdns.relay.splice import Pair, Splicer

logger = logging.getLogger("meshdns.relay")

CONNECTIONS_MAX: Final = 10_000
IDLE_LIMIT_S: Final = 3600.0
ATTEMPT_DELAY_S: Final = 1.0
CONNECT_TIMEOUT_S: Final = 10.0
REST_S: Final = 10.0

FILES_KEPT_FREE: Final = 256
"""Descriptors that connections leave to the rest of the process: DNS must not end because clients connect."""

FILES_PER_CONNECTION: Final = 2

NO_HOST: Final = "(no lease)"
PASSED_THROUGH: Final = "(pass-through)"
"""What failures are counted under when there is no host."""


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What the operator chose; times in seconds."""

    version: str
    connections_max: int = CONNECTIONS_MAX
    idle_limit_s: float = IDLE_LIMIT_S
    attempt_delay_s: float = ATTEMPT_DELAY_S
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    rest_s: float = REST_S


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """One endpoint of a host, for `explain`; healthy without rest left. `addresses` are a name's, if they are known."""

    endpoint: str
    weight: int
    rest_left_s: float
    addresses: tuple[str, ...] = ()


class Relay:
    """The whole relay. `start` it in the loop it shall run in; `replace` its routes; `drain` ends it for good."""

    def __init__(
        self,
        settings: RelaySettings,
        routes: Routes,
        resolve: Resolve,
        log: Callable[[str], None] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`log` is given a line of JSON for every connection that has ended; `draw` gives numbers in [0, 1)."""
        self.counters = RelayCounters()
        self._settings = settings
        self._routes = routes
        self._names = Names(resolve)
        self._log = log
        self._draw = draw
        self._dialling: dict[Connection, Dial] = {}
        self._told: set[tuple[str, str]] = set()
        self._all_ended = asyncio.Event()

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Take over these listening sockets, in the running loop, and close them in the end."""
        self._own_addresses = frozenset(own_address(listener) for listener in listeners)
        self._own_ports = frozenset(port for _, port in self._own_addresses)
        self._room = _room(self._settings.connections_max)
        loop = asyncio.get_running_loop()
        self._readiness = Readiness(loop)
        self._splicer = Splicer(loop, self._readiness, self.counters, self._settings.idle_limit_s)
        self._acceptor = Acceptor(loop, self._readiness, listeners, self.counters, self._has_room, self._arrived)
        self._dialler = Dialler(
            loop=loop,
            readiness=self._readiness,
            names=self._names,
            rest=Rest(self._settings.rest_s),
            draw=self._draw,
            attempt_delay_s=self._settings.attempt_delay_s,
            timeout_s=self._settings.connect_timeout_s,
            leads_back=self._leads_back,
            short_of_files=self._acceptor.pause,
        )

    def replace(self, routes: Routes) -> None:
        """Take new routes; connections that are there already, or under way, go on as they are."""
        self._routes = routes
        self._told.clear()

    async def drain(self, timeout_s: float) -> int:
        """Accept nobody, let connections finish, then reset those that are left; gives how many those were."""
        self._acceptor.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.counters.open:
                    self._all_ended.clear()
                    await self._all_ended.wait()
        left = self.counters.open
        for dial in list(self._dialling.values()):
            dial.give_up(Failure.DRAINED)
        self._splicer.close()
        self._names.close()
        self._readiness.close()
        return left

    def health(self, address: Address, port: int | None = None) -> tuple[EndpointHealth, ...]:
        """Say where a leased address leads, by one port or all declared ones, and what rests; empty without a lease."""
        route = self._routes.leases.get(address)
        if route is None:
            return ()
        declared = {one.number for backend in route.backends for one in backend.ports}
        now = monotonic()
        found: dict[Destination, EndpointHealth] = {}
        for number in sorted(declared) if port is None else (port,):
            decision = self._routes.decide_route(route, number)
            for one in decision.destinations if isinstance(decision, Forward) else ():
                found[one] = self._health_of(one, now)
        return tuple(found.values())

    def _health_of(self, destination: Destination, now: float) -> EndpointHealth:
        addresses = self._dialler.addresses(destination)
        rest_left_s = self._dialler.rests(destination, now)
        return EndpointHealth(str(destination), destination.weight, rest_left_s, tuple(map(str, addresses)))

    def _has_room(self) -> bool:
        return self.counters.open < self._room

    def _leads_back(self, target: Target, port: int) -> bool:
        """Tell whether a connection would come back to this relay: to a pool address, or to a listener of ours."""
        if isinstance(target, IPv6Address) and target.ipv4_mapped is not None:
            target = target.ipv4_mapped
        if not isinstance(target, IPv4Address | IPv6Address):
            return False
        return target in self._routes.pools or (port in self._own_ports and (target, port) in self._own_addresses)

    def _arrived(self, client: socket.socket, peer: tuple[str, int]) -> None:
        self.counters.accepted += 1
        original = original_destination(client)
        if original is None or self._is_own(client, original):
            self.counters.not_redirected += 1
            client.close()
            return
        self.counters.open += 1
        self._carry_out(Connection(client, peer, original))

    def _is_own(self, client: socket.socket, original: SocketAddress) -> bool:
        """Tell whether a client wanted the listener itself, which may listen on all addresses."""
        return original[1] in self._own_ports and (original in self._own_addresses or original == own_address(client))

    def _carry_out(self, connection: Connection) -> None:
        match self._routes.decide(*connection.original):
            case Forward(host, destinations):
                connection.host = host
                self._dial(connection, destinations)
            case PassThrough(destination):
                self.counters.passed_through += 1
                self._dial(connection, (destination,))
            case Probe():
                self.counters.probes += 1
                with contextlib.suppress(OSError):
                    connection.client.send(f"meshdns {self._settings.version}\n".encode())
                connection.client.close()
                self._ended(connection, "probe")
            case Refuse(host, reason):
                connection.host = host
                self._refuse(connection, reason)

    def _dial(self, connection: Connection, destinations: Sequence[Destination]) -> None:
        dial = self._dialler.dial(destinations, partial(self._dialled, connection))
        if not dial.is_over:
            self._dialling[connection] = dial

    def _dialled(self, connection: Connection, outcome: Attempt | Failure) -> None:
        self._dialling.pop(connection, None)
        if isinstance(outcome, Failure):
            self._refuse(connection, outcome)
            return
        connection.endpoint = outcome.candidate
        connection.connected_at = monotonic()
        self.counters.connected(connection.connected_at - connection.accepted_at)
        if outcome.sock.family != socket.AF_UNIX:
            outcome.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._splicer.join(connection.client, outcome.sock, partial(self._spliced, connection))

    def _spliced(self, connection: Connection, pair: Pair) -> None:
        end = pair.end or End.CLOSED
        if end in (End.CLIENT_RESET, End.ENDPOINT_RESET):
            self.counters.resets += 1
        elif end is End.IDLE:
            self.counters.idle += 1
        self._ended(connection, end, pair.up.moved, pair.down.moved)

    def _refuse(self, connection: Connection, reason: Refusal | Failure) -> None:
        host = connection.host
        passed_through = not host and isinstance(reason, Failure)
        self.counters.failed(PASSED_THROUGH if passed_through else host or NO_HOST, reason)
        if not passed_through and (host, reason) not in self._told:
            self._told.add((host, reason))
            logger.warning(
                "cannot connect to %s for %s: %s (told once)",
                host or NO_HOST,
                socket_text(*connection.original),
                reason,
            )
        reset(connection.client)
        self._ended(connection, reason)

    def _ended(self, connection: Connection, end: str, sent: int = 0, received: int = 0) -> None:
        self.counters.open -= 1
        if self._log is not None:
            self._log(access_line(connection, end, sent, received))
        if not self.counters.open:
            self._all_ended.set()
        self._acceptor.room_again()


def _room(connections_max: int) -> int:
    """Return for how many connections there are descriptors. Fewer is told; fewer than half is a warning."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough_for = max((files - FILES_KEPT_FREE) // FILES_PER_CONNECTION, 1)
    if enough_for < connections_max:
        level = logging.WARNING if 2 * enough_for < connections_max else logging.INFO
        logger.log(level, "at most %d connections are relayed: the limit of open files is %d", enough_for, files)
    return min(enough_for, connections_max)
