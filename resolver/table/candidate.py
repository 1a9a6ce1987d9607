"""What one object would have one host answer: the values that `candidates`, `settle` and `build` hand on."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, Protocol

from meshdns.resolver.source.entry import Address, Endpoint, Meta, Port
from meshdns.resolver.table.policy import Policy
from meshdns.resolver.table.row import EndpointRow, Part, PortRow, Source


class Lease(Protocol):
    """What is read of `allocate.Lease`."""

    @property
    def host(self) -> str:
        """The host, lower case."""

    @property
    def namespace(self) -> str:
        """The namespace of the entries it counts for."""

    @property
    def v4(self) -> IPv4Address:
        """The address for A."""

    @property
    def v6(self) -> IPv6Address:
        """The address for AAAA."""


class Kind(IntEnum):
    """What a host is to the object that names it; the smaller comes first."""

    SERVICE = 0
    SERVICE_SHORT = 1
    POD = 2
    POD_SHORT = 3
    ENTRY = 4


class Visibility(IntEnum):
    """How the served namespace sees an object; the smaller comes first."""

    OWN = 0
    NAMED = 1
    PUBLIC = 2
    HIDDEN = 3


class Candidate(NamedTuple):
    """One object's claim to one host.

    `configured`: its addresses were written for this host, so that PTR may name it. `leased`: addresses of the pools,
    from our lease or from Istio's controller (status.addresses). `short_of` is the full name that a short name stands
    for, `external` an ExternalName's target. `reason` says why there is nothing to answer.
    """

    host: str
    kind: Kind
    visibility: Visibility
    meta: Meta
    part: Part
    policy: Policy
    addresses: tuple[Address, ...] = ()
    configured: bool = False
    leased: tuple[Address, ...] = ()
    short_of: str = ""
    external: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


def visibility(export_to: Iterable[str], namespace: str, own: str) -> Visibility:
    """Return how `own` sees an object of `namespace`; exportTo empty is everyone, `~` is nobody."""
    to = set(export_to)
    if "~" in to:
        return Visibility.HIDDEN
    named = own in to or ("." in to and namespace == own)
    if to and "*" not in to and not named:
        return Visibility.HIDDEN
    if namespace == own:
        return Visibility.OWN
    return Visibility.NAMED if named else Visibility.PUBLIC


def source_of(kind: str, meta: Meta) -> Source:
    """Return where an object stands."""
    return Source(kind, meta.namespace, meta.name, meta.origin.file, meta.origin.line)


@lru_cache(maxsize=1024)
def port_rows(ports: tuple[Port, ...]) -> tuple[PortRow, ...]:
    """Return ports as rows keep them: the same object for the same ports, which thousands of entries share."""
    return tuple([PortRow(port.number, port.name, port.protocol, port.target_port) for port in ports])


def endpoint_rows(endpoints: Iterable[Endpoint]) -> tuple[EndpointRow, ...]:
    """Return endpoints as rows keep them."""
    return tuple([EndpointRow(each.address, each.weight, tuple(each.ports.items())) for each in endpoints])
