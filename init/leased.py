"""What a leased address stands for, read from the resolver's table in the relay's words.

A route is made when a connection asks for it: a table of ten thousand hosts changes hands without any work here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from meshdns.relay.address import Address
from meshdns.relay.route import Backend, DnsName, Endpoint, Port, Route, parse_target
from meshdns.resolver.table.live import Table
from meshdns.resolver.table.row import Part, Row

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
