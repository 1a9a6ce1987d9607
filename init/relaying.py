"""What a leased address stands for, read from the resolver's table in the relay's words; the relay as its companion.

A route is made when a connection asks for it: a table of ten thousand hosts changes hands without any work here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address

from meshdns.init import defaults
from meshdns.relay.counters import CONNECT_BOUNDS_S
from meshdns.relay.route import Address, Backend, DnsName, Endpoint, Pools, Port, Route, Routes, parse_target
from meshdns.relay.server import Relay, RelaySettings
from meshdns.resolver.serve.metrics import Histogram, Metric, number
from meshdns.resolver.serve.upstream import Forwarder
from meshdns.resolver.table.live import Table
from meshdns.resolver.table.row import Part, Row

Log = Callable[[str], None]

logger = logging.getLogger("meshdns.relay")

_RESOLVED_BY_NAME = frozenset({"DNS", "DNS_ROUND_ROBIN"})
"""`resolver.source.entry.Resolution`, as rows write it; that module is not for the process that serves."""


class LeasedRoutes(Mapping[Address, Route]):
    """The routes of one table's leases, by leased address."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __getitem__(self, address: Address) -> Route:
        name = self._table.addresses[address.packed]
        if name.row.lease is None or address.packed not in name.row.lease:
            raise KeyError(address)
        return route_of(name.row)

    def __iter__(self) -> Iterator[Address]:
        for row in self._table.rows:
            for packed in row.lease or ():
                yield ip_address(packed)

    def __len__(self) -> int:
        return sum(len(row.lease or ()) for row in self._table.rows)


def route_of(row: Row) -> Route:
    """Return what stands behind a host: one backend for each object that names it."""
    return Route(row.host, tuple(_backend(part, row.host) for part in row.account.parts))


def _backend(part: Part, host: str) -> Backend:
    ports = tuple(Port(port.number, port.name, port.target) for port in part.ports)
    endpoints = tuple(
        Endpoint(parse_target(endpoint.address), dict(endpoint.ports), endpoint.weight) for endpoint in part.endpoints
    )
    if not endpoints and part.resolution in _RESOLVED_BY_NAME:
        endpoints = (Endpoint(DnsName(host)),)
    return Backend(ports, endpoints)


class RelayCompanion:
    """The relay, living in the resolver's loop."""

    def __init__(
        self, settings: RelaySettings, pools: Pools, *, refuse_undeclared_ports: bool, log: Log | None
    ) -> None:
        """`log` gets a JSON line for each connection that ended."""
        self._settings = settings
        self._pools = pools
        self._refuse_undeclared_ports = refuse_undeclared_ports
        self._log = log
        self._relay: Relay

    def start(self, forwarder: Forwarder) -> None:
        """Listen; endpoints that are names are resolved upstream, never by our own table."""
        self._relay = Relay(self._settings, self._routes({}), forwarder.resolve, self._log)
        for warning in self._relay.start():
            logger.warning("%s", warning)

    def follow(self, table: Table) -> None:
        """Relay new connections as this table has it; those that are there go on."""
        self._relay.replace(self._routes(LeasedRoutes(table)))

    def metrics(self) -> Iterator[Metric | Histogram]:
        """Yield what the relay counts."""
        counters = self._relay.counters
        yield number("meshdns_relay_open", "gauge", "Connections now.", counters.open)
        yield number("meshdns_relay_accepted", "counter", "Connections accepted.", counters.accepted)
        yield number("meshdns_relay_passed_through", "counter", "Connected as they were.", counters.passed_through)
        yield number("meshdns_relay_not_redirected", "counter", "Closed: no rule sent them.", counters.not_redirected)
        yield number("meshdns_relay_probes", "counter", "Asked by `capture verify`.", counters.probes)
        yield number("meshdns_relay_idle", "counter", "Ended because nothing was said for too long.", counters.idle)
        yield number("meshdns_relay_accept_pauses", "counter", "Nobody accepted: too many.", counters.accept_pauses)
        yield number("meshdns_relay_resets", "counter", "Ended by a reset of either side.", counters.resets)
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
        for one in self._relay.health(address, port):
            health = f"rests for {one.rest_left_s:.0f} s after a failure" if one.rest_left_s else "healthy"
            known = f", now {', '.join(one.addresses)}" if one.addresses else ""
            found.append({"endpoint": one.endpoint, "health": f"{health}, weight {one.weight}{known}"})
        return found

    async def drain(self, timeout_s: float) -> None:
        """Accept nobody, and let connections finish."""
        left = await self._relay.drain(timeout_s)
        if left:
            logger.warning("%d connections did not finish within %.0f s and were reset", left, timeout_s)

    def _routes(self, leases: Mapping[Address, Route]) -> Routes:
        return Routes(self._pools, leases, defaults.RELAY_PROBE_PORT, self._refuse_undeclared_ports)
