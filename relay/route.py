"""What is done with a connection, by its original destination: behaviour of an allocated address.

Decides: which host an address stands for, which port of an endpoint answers for a service port, what is passed through,
what is refused. Never here: sockets, clocks, chance (the order of the destinations is for `order`), how a name of an
endpoint resolves (`names`). Field meanings: istio.io/docs/reference/config/networking/service-entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType

from meshdns.relay.address import Address, socket_text

_UNIX = "unix://"
_NO_PORTS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A Unix stream socket; a path that begins with `@` is an abstract one, unix(7)."""

    path: str

    def __str__(self) -> str:
        return _UNIX + self.path


@dataclass(frozen=True, slots=True)
class DnsName:
    """A name that the relay has resolved upstream when a connection needs it."""

    name: str

    def __str__(self) -> str:
        return self.name


Target = IPv4Address | IPv6Address | UnixPath | DnsName


def parse_target(text: str) -> Target:
    """Read an endpoint's address as manifests write it: an IP address, `unix://` and a path, else a DNS name."""
    if text.startswith(_UNIX):
        return UnixPath(text.removeprefix(_UNIX))
    try:
        return ip_address(text)
    except ValueError:
        return DnsName(text)


@dataclass(frozen=True, slots=True)
class Port:
    """A port that an entry declares; `target` is its targetPort."""

    number: int
    name: str = ""
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where a host is served; `ports` are keyed by the name of the service port.

    A weight below 1 counts as 1, which is how Istio reads a weight that nobody set.
    """

    target: Target
    ports: Mapping[str, int] = field(default_factory=lambda: _NO_PORTS)
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Backend:
    """What one entry says about a host: the ports it declares, and the endpoints that serve every one of them."""

    ports: tuple[Port, ...]
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """What a leased address stands for: a host, and one backend per entry that names it."""

    host: str
    backends: tuple[Backend, ...]


@dataclass(frozen=True, slots=True)
class Destination:
    """An endpoint with the port that one connection goes to there (a `UnixPath` has no use for it)."""

    target: Target
    port: int
    weight: int = 1

    def __str__(self) -> str:
        if isinstance(self.target, UnixPath):
            return str(self.target)
        return socket_text(self.target, self.port)


class Refusal(StrEnum):
    """Why a pool address is reset."""

    NO_LEASE = "no-lease"
    NO_ENDPOINT = "no-endpoint"
    UNDECLARED_PORT = "undeclared-port"


@dataclass(frozen=True, slots=True)
class Forward:
    """Connect to one of these, at least one."""

    host: str
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class PassThrough:
    """Not a pool address: connect to it as it is."""

    destination: Destination


@dataclass(frozen=True, slots=True)
class Probe:
    """The relay is asked whether it is there: say which version it is, and close."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Reset. `host` is empty where no lease names one."""

    host: str
    reason: Refusal


Decision = Forward | PassThrough | Probe | Refuse


@dataclass(frozen=True, slots=True)
class Pools:
    """The ranges that leases come from. An offset means the same lease in both; the last of pool4 is for the probe."""

    v4: IPv4Network
    v6: IPv6Network

    def offset(self, address: Address) -> int | None:
        """How far into its pool an address lies; None outside."""
        pool: IPv4Network | IPv6Network = self.v4 if isinstance(address, IPv4Address) else self.v6
        offset = int(address) - int(pool.network_address)
        return offset if 0 <= offset < pool.num_addresses else None

    def __contains__(self, address: Address) -> bool:
        return self.offset(address) is not None

    @property
    def probe_offset(self) -> int:
        """Where the relay answers for itself, in both pools."""
        return self.v4.num_addresses - 1


@dataclass(frozen=True, slots=True)
class Routes:
    """All that the relay knows about addresses; replaced whole when manifests change."""

    pools: Pools
    leases: Mapping[Address, Route]
    probe_port: int
    refuse_undeclared_ports: bool = False

    def decide(self, address: Address, port: int) -> Decision:
        """Say what becomes of a connection to `address` and `port`."""
        offset = self.pools.offset(address)
        if offset is None:
            return PassThrough(Destination(address, port))
        if offset == self.pools.probe_offset and port == self.probe_port:
            return Probe()
        route = self.leases.get(address)
        if route is None:
            return Refuse("", Refusal.NO_LEASE)
        return self.decide_route(route, port)

    def decide_route(self, route: Route, port: int) -> Forward | Refuse:
        """Say which endpoints serve a port of a host."""
        declared = _declared(route, port)
        if declared is None and self.refuse_undeclared_ports:
            return Refuse(route.host, Refusal.UNDECLARED_PORT)
        destinations = _everywhere(route, port) if declared is None else declared
        return Forward(route.host, destinations) if destinations else Refuse(route.host, Refusal.NO_ENDPOINT)


def _declared(route: Route, number: int) -> tuple[Destination, ...] | None:
    """List what the entries that declare the port offer; None when none of them does."""
    serving = [(backend, port) for backend in route.backends for port in backend.ports if port.number == number]
    if not serving:
        return None
    return _once(
        Destination(endpoint.target, _endpoint_port(endpoint, port), endpoint.weight)
        for backend, port in serving
        for endpoint in backend.endpoints
    )


def _endpoint_port(endpoint: Endpoint, port: Port) -> int:
    named = endpoint.ports.get(port.name)
    return named or port.target or port.number


def _everywhere(route: Route, number: int) -> tuple[Destination, ...]:
    """Treat an undeclared port: it is the same port of every endpoint."""
    return _once(
        Destination(endpoint.target, number, endpoint.weight)
        for backend in route.backends
        for endpoint in backend.endpoints
    )


def _once(destinations: Iterable[Destination]) -> tuple[Destination, ...]:
    """Each place once, the first mention's weight: two entries that name one endpoint do not double its share."""
    kept: dict[tuple[Target, int], Destination] = {}
    for destination in destinations:
        kept.setdefault((destination.target, destination.port), destination)
    return tuple(kept.values())
