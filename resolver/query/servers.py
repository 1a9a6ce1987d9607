"""Which servers a name is asked of, and in which order: conditional zones, health, smoothed round-trip times.

Nothing is sent from here; `exchange` says when a server answered or did not, and asks for the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address

DNS_PORT: Final = 53

WAIT_UNKNOWN_S: Final = 0.4
"""Until a server's round-trip time is known (Unbound: 0.376 s)."""

WAIT_MIN_S: Final = 0.2
"""A resolver near us answers from its cache in a millisecond and needs far longer for a name it has to look up."""

WAIT_MAX_S: Final = 1.0
"""So that two rounds over two servers fit into the deadline."""

ROUND_TRIPS: Final = 4
"""A server's wait in smoothed round-trip times."""

FAILURES_UNTIL_SICK: Final = 3
"""In a row; one lost datagram does not make a server sick."""

PROBE_INTERVAL_S: Final = 5.0
"""A sick server is asked beside a healthy one this often, so that nobody waits for the attempt."""

LOOP_REST_S: Final = 60.0
"""A server that leads back to us is left alone for so long."""

_SMOOTHING: Final = 1 / 8
"""Weight of a new round-trip time (RFC 6298, section 2)."""


class Upstream(NamedTuple):
    """Where a nameserver listens; `interface` is that of a link-local address."""

    address: Address
    port: int = DNS_PORT
    interface: str | None = None

    def __str__(self) -> str:
        host = f"{self.address}%{self.interface}" if self.interface else str(self.address)
        return f"[{host}]:{self.port}" if self.address.version == 6 else f"{host}:{self.port}"  # noqa: PLR2004


class Server:
    """An upstream and what is known about it. Times are those of the clock that is passed in, in seconds.

    `wait_s` is how long it is waited for before the next try starts.
    """

    __slots__ = (
        "attempts",
        "failures",
        "failures_in_a_row",
        "loop_check_at_s",
        "loops_until_s",
        "name",
        "probe_at_s",
        "round_trip_s",
        "upstream",
        "wait_s",
    )

    def __init__(self, upstream: Upstream) -> None:
        """Nothing is known of it yet."""
        self.upstream = upstream
        self.name = str(upstream)
        self.attempts = 0
        self.failures = 0
        self.failures_in_a_row = 0
        self.round_trip_s: float | None = None
        self.wait_s = WAIT_UNKNOWN_S
        self.probe_at_s = 0.0
        self.loops_until_s = 0.0
        self.loop_check_at_s = 0.0

    @property
    def healthy(self) -> bool:
        """It answered lately, or was not asked yet."""
        return self.failures_in_a_row < FAILURES_UNTIL_SICK

    def answered(self, round_trip_s: float | None, *, in_time: bool) -> None:
        """Take note of an answer; `in_time`: a good one, within the wait. None: the time says nothing, it was TCP."""
        if in_time:
            self.failures_in_a_row = 0
        if round_trip_s is not None:
            known = self.round_trip_s
            smoothed = round_trip_s if known is None else known + (round_trip_s - known) * _SMOOTHING
            self.round_trip_s = smoothed
            self.wait_s = min(max(smoothed * ROUND_TRIPS, WAIT_MIN_S), WAIT_MAX_S)

    def failed(self, now: float) -> None:
        """Take note that there was none: silence, a refusal, or an RCODE that says it could not."""
        self.failures += 1
        self.failures_in_a_row += 1
        self.probe_at_s = now + PROBE_INTERVAL_S

    def looped(self, now: float) -> None:
        """Take note that a query sent to it came back to us; after its rest it counts as sick."""
        self.loops_until_s = now + LOOP_REST_S
        self.failures_in_a_row = FAILURES_UNTIL_SICK


class Order(NamedTuple):
    """The servers to try one after another, and a sick one to be asked beside the first."""

    servers: tuple[Server, ...]
    probe: Server | None = None
    looping: tuple[Server, ...] = ()


class Servers:
    """All servers: those for every name, and those of conditional zones by the zone's key (lower-case wire form)."""

    __slots__ = ("_as_configured", "default", "zones")

    def __init__(
        self, default: tuple[Server, ...] = (), zones: Mapping[bytes, tuple[Server, ...]] = MappingProxyType({})
    ) -> None:
        self.default = default
        self.zones = zones
        self._as_configured = Order(default)  # that of nearly every question

    def __iter__(self) -> Iterator[Server]:
        yield from self.default
        for servers in self.zones.values():
            yield from servers

    def order(self, key: bytes, now: float) -> Order:
        """Healthy servers first, each group as configured; those that lead back to us are left out."""
        servers = self.unsorted(key, now)
        if not servers:
            return self._sorted(self._responsible(key), now)
        return self._as_configured if servers is self.default else Order(servers)

    def unsorted(self, key: bytes, now: float) -> tuple[Server, ...]:
        """Return those for the name as configured, when nothing is wrong with any of them; else none."""
        servers = self._responsible(key) if self.zones else self.default
        for server in servers:
            if server.failures_in_a_row >= FAILURES_UNTIL_SICK or server.loops_until_s > now:
                return ()
        return servers

    def _sorted(self, servers: tuple[Server, ...], now: float) -> Order:
        usable = [server for server in servers if server.loops_until_s <= now]
        sick = [server for server in usable if not server.healthy]
        healthy = [server for server in usable if server.healthy]
        probe = next((server for server in sick if server.probe_at_s <= now), None) if healthy else None
        if probe is not None:
            probe.probe_at_s = now + PROBE_INTERVAL_S
        looping = tuple(server for server in servers if server.loops_until_s > now)
        return Order((*healthy, *sick), probe, looping)

    def _responsible(self, key: bytes) -> tuple[Server, ...]:
        at = 0
        while True:
            servers = self.zones.get(key[at:])
            if servers is not None:
                return servers
            if at >= len(key) or key[at] == 0:
                return self.default
            at += key[at] + 1
