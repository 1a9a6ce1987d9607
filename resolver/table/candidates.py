"""What each object would have a host answer: (entries, leases) -> candidates. Pure.

Who gets a host that several objects name is decided in `settle`, what goes on the wire in `build`. A host that gets no
address is a candidate all the same, with the reason, for `explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from meshdns.resolver.source.entry import (
    Address,
    Endpoint,
    EndpointSlice,
    Entry,
    Meta,
    Network,
    Port,
    Resolution,
    Service,
    ServiceEntry,
    WorkloadEntry,
    allows_lease,
)
from meshdns.resolver.source.syntax import address as parse_address
from meshdns.resolver.table.aliases import service_host, short_names
from meshdns.resolver.table.policy import Policy, policy
from meshdns.resolver.table.row import EndpointRow, Part, PortRow, Source
from meshdns.resolver.table.tenants import is_eligible

EXPORT_ANNOTATION: Final = "networking.istio.io/exportTo"
"""Istio's way to write exportTo on a Service."""


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


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose table it is and what goes into every answer. `pools` are those of the leases."""

    namespace: str
    cluster_domain: str
    search: tuple[str, ...]
    pools: tuple[Network, ...]
    ttl_s: int
    negative_ttl_s: int
    probe_suffix: str
    generation: int
    answer_endpoints: bool = False
    forward_other_types: bool = False


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


@dataclass(frozen=True, slots=True)
class Candidate:
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


@dataclass(frozen=True, slots=True)
class _Found:
    addresses: tuple[Address, ...] = ()
    configured: bool = False
    leased: tuple[Address, ...] = ()
    reason: str = ""


def candidates(entries: Sequence[Entry], leases: Iterable[Lease], scope: Scope) -> Iterator[Candidate]:
    """Yield every claim of every object, visible or not."""
    leased = {(lease.host, lease.namespace): lease for lease in leases}
    workloads = _Workloads(entry for entry in entries if isinstance(entry, WorkloadEntry))
    slices: dict[tuple[str, str], list[EndpointSlice]] = {}
    for entry in entries:
        if isinstance(entry, EndpointSlice):
            slices.setdefault((entry.meta.namespace, entry.service), []).append(entry)
    for entry in entries:
        if isinstance(entry, ServiceEntry):
            yield from _of_service_entry(entry, leased, workloads, scope)
        elif isinstance(entry, Service):
            yield from _of_service(entry, slices.get((entry.meta.namespace, entry.meta.name), ()), scope)


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


def _of_service_entry(
    entry: ServiceEntry, leased: Mapping[tuple[str, str], Lease], workloads: _Workloads, scope: Scope
) -> Iterator[Candidate]:
    meta = entry.meta
    seen = visibility(entry.export_to, meta.namespace, scope.namespace)
    asked = policy(meta.annotations)
    endpoints = entry.endpoints if entry.selector is None else workloads.matching(meta.namespace, entry.selector)
    part = Part(
        _source("ServiceEntry", meta),
        str(entry.resolution),
        _port_rows(entry.ports),
        _endpoint_rows(endpoints),
        tuple([str(address) for address in entry.addresses]),
    )
    blocks = [str(block) for block in entry.addresses if not isinstance(block, Address)]
    notes = (*asked.notes, f"CIDR blocks are not answered: {', '.join(blocks)}") if blocks else asked.notes
    for host in dict.fromkeys(entry.hosts):
        found = _found(entry, host, endpoints, leased.get((host, meta.namespace)), scope)
        yield Candidate(
            host,
            Kind.ENTRY,
            seen,
            meta,
            part,
            asked,
            found.addresses,
            found.configured,
            found.leased,
            reason=found.reason,
            notes=notes,
        )


def _found(entry: ServiceEntry, host: str, endpoints: Iterable[Endpoint], lease: Lease | None, scope: Scope) -> _Found:
    """Decide what a host of a ServiceEntry answers: the rows of the documented table, from the top."""
    plain = tuple([item for item in entry.addresses if isinstance(item, Address) and not item.is_unspecified])
    if plain:
        return _Found(plain, configured=True)
    if any(not isinstance(item, Address) for item in entry.addresses):
        return _Found(reason="its addresses are CIDR blocks only: add a plain address")
    if entry.resolution is Resolution.NONE:
        return _of_selected(entry, endpoints)
    status = entry.status_addresses.get(host, ()) if allows_lease(entry.meta) else ()
    if status:
        leased = tuple([address for address in status if any(address in pool for pool in scope.pools)])
        return _Found(tuple([address for address in status if address not in leased]), configured=True, leased=leased)
    if scope.answer_endpoints and entry.resolution is Resolution.STATIC:
        addresses = _ip_addresses(endpoints)
        if addresses:
            return _Found(addresses)
    return _leased(entry, host, lease)


def _leased(entry: ServiceEntry, host: str, lease: Lease | None) -> _Found:
    if host.startswith("*"):
        return _Found(reason="a wildcard gets no lease: add addresses")
    if not allows_lease(entry.meta):
        return _Found(reason='its label networking.istio.io/enable-autoallocate-ip is "false", and it has no addresses')
    if not is_eligible(entry):
        return _Found(reason=f"resolution {entry.resolution} gets no lease: add addresses")
    if lease is None:
        return _Found(reason="it has no lease: auto-allocation is off, or the pool is used up")
    return _Found(leased=(lease.v4, lease.v6))


def _of_selected(entry: ServiceEntry, endpoints: Iterable[Endpoint]) -> _Found:
    if entry.selector is None:
        return _Found(reason="resolution NONE without addresses: add addresses, or use resolution STATIC or DNS")
    addresses = _ip_addresses(endpoints)
    return _Found(addresses) if addresses else _Found(reason="no WorkloadEntry with an IP address matches its selector")


def _ip_addresses(endpoints: Iterable[Endpoint]) -> tuple[Address, ...]:
    found = [parse_address(endpoint.address) for endpoint in endpoints]
    return tuple(dict.fromkeys([address for address in found if address is not None]))


def _of_service(service: Service, slices: Iterable[EndpointSlice], scope: Scope) -> Iterator[Candidate]:
    meta = service.meta
    exported = meta.annotations.get(EXPORT_ANNOTATION, "")
    seen = visibility([name.strip() for name in exported.split(",") if name.strip()], meta.namespace, scope.namespace)
    asked = policy(meta.annotations)
    headless = not service.cluster_ips and service.external_name is None
    ready = [endpoint for part in slices for endpoint in part.endpoints if endpoint.ready or service.publish_not_ready]
    addresses = tuple(dict.fromkeys([address for endpoint in ready for address in endpoint.addresses]))
    host = service_host(meta.name, meta.namespace, scope.cluster_domain)
    shorts = short_names(meta.name, meta.namespace, scope.namespace)
    part = Part(
        _source("Service", meta),
        "",
        _port_rows(service.ports),
        _endpoint_rows([Endpoint(str(address)) for address in addresses]) if headless else (),
        tuple([str(address) for address in service.cluster_ips]),
    )
    whole = Candidate(
        host,
        Kind.SERVICE,
        seen,
        meta,
        part,
        asked,
        addresses if headless else service.cluster_ips,
        configured=not headless,
        external=service.external_name or "",
        reason="it is headless and has no ready endpoint" if headless and not addresses else "",
        notes=asked.notes,
    )
    yield whole
    if not whole.reason:
        yield from _shortened(whole, shorts, Kind.SERVICE_SHORT)
    if headless:
        pods: dict[str, list[Address]] = {}
        for endpoint in ready:
            if endpoint.hostname:
                pods.setdefault(endpoint.hostname, []).extend(endpoint.addresses)
        for hostname, found in pods.items():
            pod = Candidate(f"{hostname}.{host}", Kind.POD, seen, meta, part, asked, tuple(dict.fromkeys(found)))
            yield pod
            yield from _shortened(pod, [f"{hostname}.{short}" for short in shorts], Kind.POD_SHORT)


def _shortened(whole: Candidate, shorts: Iterable[str], kind: Kind) -> Iterator[Candidate]:
    for short in shorts:
        yield Candidate(short, kind, whole.visibility, whole.meta, whole.part, whole.policy, short_of=whole.host)


class _Workloads:
    """WorkloadEntries by namespace and label, since thousands of selectors may look among thousands of them."""

    def __init__(self, entries: Iterable[WorkloadEntry]) -> None:
        self._by_namespace: dict[str, list[tuple[Mapping[str, str], Endpoint]]] = {}
        self._by_label: dict[tuple[str, str, str], list[tuple[Mapping[str, str], Endpoint]]] = {}
        for entry in entries:
            namespace = entry.meta.namespace
            labels = {**entry.meta.labels, **entry.endpoint.labels}
            self._by_namespace.setdefault(namespace, []).append((labels, entry.endpoint))
            for key, value in labels.items():
                self._by_label.setdefault((namespace, key, value), []).append((labels, entry.endpoint))

    def matching(self, namespace: str, selector: Mapping[str, str]) -> tuple[Endpoint, ...]:
        """Return the endpoints of this namespace that have every label of the selector."""
        if not selector:
            return tuple(endpoint for _, endpoint in self._by_namespace.get(namespace, ()))
        lists = [self._by_label.get((namespace, key, value), []) for key, value in selector.items()]
        wanted = selector.items()
        return tuple(endpoint for labels, endpoint in min(lists, key=len) if wanted <= labels.items())


def _source(kind: str, meta: Meta) -> Source:
    return Source(kind, meta.namespace, meta.name, meta.origin.file, meta.origin.line)


def _port_rows(ports: Iterable[Port]) -> tuple[PortRow, ...]:
    return tuple([PortRow(port.number, port.name, port.protocol, port.target_port) for port in ports])


def _endpoint_rows(endpoints: Iterable[Endpoint]) -> tuple[EndpointRow, ...]:
    return tuple([EndpointRow(each.address, each.weight, tuple(each.ports.items())) for each in endpoints])
