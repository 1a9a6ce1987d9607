"""What each object would have a host answer: (entries, leases) -> candidates. Pure.

Who gets a host that several objects name is decided in `settle`, what goes on the wire in `build`. A host that gets no
address is a candidate all the same, with the reason, for `explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from meshdns.resolver.source.entry import (
    Address,
    Endpoint,
    EndpointSlice,
    Entry,
    Resolution,
    Service,
    ServiceEntry,
    WorkloadEntry,
    allows_lease,
)
from meshdns.resolver.source.syntax import address as parse_address
from meshdns.resolver.table.candidate import (
    Candidate,
    Kind,
    Lease,
    Visibility,
    endpoint_rows,
    port_rows,
    source_of,
    visibility,
)
from meshdns.resolver.table.kubernetes import of_service
from meshdns.resolver.table.policy import policy
from meshdns.resolver.table.row import Part
from meshdns.resolver.table.scope import Scope
from meshdns.resolver.table.tenants import is_eligible

__all__ = ["Candidate", "Kind", "Lease", "Visibility", "candidates"]


class _Found(NamedTuple):
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
            yield from of_service(entry, slices.get((entry.meta.namespace, entry.meta.name), ()), scope)


def _of_service_entry(
    entry: ServiceEntry, leased: Mapping[tuple[str, str], Lease], workloads: _Workloads, scope: Scope
) -> Iterator[Candidate]:
    meta = entry.meta
    seen = visibility(entry.export_to, meta.namespace, scope.namespace)
    asked = policy(meta.annotations)
    endpoints = entry.endpoints if entry.selector is None else workloads.matching(meta.namespace, entry.selector)
    part = Part(
        source_of("ServiceEntry", meta),
        str(entry.resolution),
        port_rows(entry.ports),
        endpoint_rows(endpoints),
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
