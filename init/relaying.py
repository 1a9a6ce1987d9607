"""The relay as the resolver's companion: its sockets are opened at once, and all the rest of it waits for names.

A name is answered without the relay, whose modules take 20 ms to import. Until it starts its clients wait in the
backlog. No module of it but `address`, `counters` and `listen` may be imported above.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from meshdns.init import defaults
from meshdns.relay.address import Address, SocketAddress
from meshdns.relay.counters import CONNECT_BOUNDS_S
from meshdns.relay.listen import listen
from meshdns.resolver.serve.admin import late_import
from meshdns.resolver.serve.metrics import Histogram, Metric, number
from meshdns.resolver.serve.settings import LineSink
from meshdns.resolver.serve.upstream import Forwarder
from meshdns.resolver.table.live import Table
from meshdns.resolver.table.pools import Pools

if TYPE_CHECKING:
    from meshdns.relay.route import Routes
    from meshdns.relay.server import Relay

logger = logging.getLogger("meshdns.relay")


class RelayOptions(NamedTuple):
    """What the operator chose; `log` gets a JSON line for each connection that ended."""

    listen: Sequence[SocketAddress]
    version: str
    pools: Pools
    refuse_undeclared_ports: bool
    log: LineSink | None


class RelayCompanion:
    """The relay, living in the resolver's loop."""

    def __init__(self, options: RelayOptions) -> None:
        """Nothing is opened before `open`."""
        self._options = options
        self._listeners: list[socket.socket] = []
        self._forwarder: Forwarder
        self._table: Table
        self._started: Relay | None = None

    def open(self, forwarder: Forwarder) -> None:
        """Listen; endpoints that are names will be resolved upstream, never by our own table. Raises ListenError."""
        self._forwarder = forwarder
        self._listeners, warnings = listen(self._options.listen)
        for warning in warnings:
            logger.warning("%s", warning)

    async def start(self) -> None:
        """Relay from now on."""
        for module in ("meshdns.init.leased", "meshdns.relay.server"):
            await late_import(module)
        self._relay()

    def follow(self, table: Table) -> None:
        """Relay new connections as this table has it; those that are there go on."""
        self._table = table
        if self._started is not None:
            self._started.replace(self._routes())

    def metrics(self) -> Iterator[Metric | Histogram]:
        """Yield what the relay counts."""
        counters = self._relay().counters
        yield number("meshdns_relay_open", "gauge", "Connections now.", counters.open)
        yield number("meshdns_relay_accepted", "counter", "Connections accepted.", counters.accepted)
        yield number("meshdns_relay_passed_through", "counter", "Connected as they were.", counters.passed_through)
        yield number("meshdns_relay_not_redirected", "counter", "Closed: no rule sent them.", counters.not_redirected)
        yield number("meshdns_relay_probes", "counter", "Asked by `capture verify`.", counters.probes)
        yield number("meshdns_relay_idle", "counter", "Ended because nothing was said for too long.", counters.idle)
        yield number("meshdns_relay_accept_pauses", "counter", "Nobody accepted: too many.", counters.accept_pauses)
        yield number("meshdns_relay_resets", "counter", "Ended by a reset of either side.", counters.resets)
        dropped = self._options.log.dropped if self._options.log else 0
        yield number("meshdns_relay_log_dropped", "counter", "Lines of --access-log that were lost.", dropped)
        directions = [(("sent",), counters.sent_bytes), (("received",), counters.received_bytes)]
        yield Metric("meshdns_relay_bytes", "counter", "Bytes to and from endpoints.", ("direction",), directions)
        yield Metric(
            "meshdns_relay_failures",
            "counter",
            "Connections that reached no endpoint.",
            ("host", "reason"),
            counters.failures.items(),
        )
        series = {"": (counters.connect_counts, counters.connect_sum_s)}
        yield Histogram("meshdns_relay_connect_seconds", "From accept to connected.", "", CONNECT_BOUNDS_S, series)

    def endpoints(self, address: Address, port: int | None) -> list[dict[str, str]]:
        """Say which endpoints an address has, and how they do."""
        found = []
        for one in self._relay().health(address, port):
            health = f"rests for {one.rest_left_s:.0f} s after a failure" if one.rest_left_s else "healthy"
            known = f", now {', '.join(one.addresses)}" if one.addresses else ""
            found.append({"endpoint": one.endpoint, "health": f"{health}, weight {one.weight}{known}"})
        return found

    async def drain(self, timeout_s: float) -> None:
        """Accept nobody, and let connections finish."""
        left = await self._relay().drain(timeout_s)
        if left:
            logger.warning("connections that did not finish within %.0f s were reset: %d", timeout_s, left)

    def _relay(self) -> Relay:
        """Return the relay, started now if somebody asks for it before its time."""
        if self._started is None:
            from meshdns.relay.server import Relay, RelaySettings  # noqa: PLC0415 - see above

            settings, log = RelaySettings(self._options.version), self._options.log
            self._started = Relay(settings, self._routes(), self._forwarder.resolve, log.put if log else None)
            self._started.start(self._listeners)
        return self._started

    def _routes(self) -> Routes:
        from meshdns.init.leased import LeasedRoutes  # noqa: PLC0415 - see above
        from meshdns.relay import route  # noqa: PLC0415

        options = self._options
        pools = route.Pools(options.pools.v4, options.pools.v6)
        leases = LeasedRoutes(self._table)
        return route.Routes(pools, leases, defaults.RELAY_PROBE_PORT, options.refuse_undeclared_ports)
