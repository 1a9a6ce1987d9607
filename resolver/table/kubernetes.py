"""What a Kubernetes Service would have its names answer: its own, its short ones, and those of its pods. Pure.

Kubernetes DNS specification, https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from meshdns.resolver.source.entry import Address, Endpoint, EndpointSlice, Service, SliceEndpoint
from meshdns.resolver.table.aliases import service_host, short_names
from meshdns.resolver.table.candidate import (
    Candidate,
    Kind,
    endpoint_rows,
    port_rows,
    source_of,
    visibility,
)
from meshdns.resolver.table.policy import policy
from meshdns.resolver.table.row import Part
from meshdns.resolver.table.scope import Scope

EXPORT_ANNOTATION: Final = "networking.istio.io/exportTo"
"""Istio's way to write exportTo on a Service."""


def of_service(service: Service, slices: Iterable[EndpointSlice], scope: Scope) -> Iterator[Candidate]:
    """Yield the claims of a Service, `slices` being its own. Without an answer it claims no short name."""
    ready = [each for part in slices for each in part.endpoints if each.ready or service.publish_not_ready]
    whole = _whole(service, ready, scope)
    shorts = short_names(service.meta.name, service.meta.namespace, scope.namespace)
    yield whole
    if not whole.reason:
        yield from _shortened(whole, shorts, Kind.SERVICE_SHORT)
    if _is_headless(service):
        for hostname, addresses in _by_hostname(ready):
            host = f"{hostname}.{whole.host}"
            pod = Candidate(host, Kind.POD, whole.visibility, whole.meta, whole.part, whole.policy, addresses)
            yield pod
            yield from _shortened(pod, [f"{hostname}.{short}" for short in shorts], Kind.POD_SHORT)


def _whole(service: Service, ready: Iterable[SliceEndpoint], scope: Scope) -> Candidate:
    meta = service.meta
    asked = policy(meta.annotations)
    exported = [name.strip() for name in meta.annotations.get(EXPORT_ANNOTATION, "").split(",")]
    headless = _is_headless(service)
    found = tuple(dict.fromkeys([address for each in ready for address in each.addresses])) if headless else ()
    return Candidate(
        service_host(meta.name, meta.namespace, scope.cluster_domain),
        Kind.SERVICE,
        visibility([name for name in exported if name], meta.namespace, scope.namespace),
        meta,
        Part(
            source_of("Service", meta),
            "",
            port_rows(service.ports),
            endpoint_rows([Endpoint(str(address)) for address in found]),
            tuple([str(address) for address in service.cluster_ips]),
        ),
        asked,
        found if headless else service.cluster_ips,
        configured=not headless,
        external=service.external_name or "",
        reason="it is headless and has no ready endpoint" if headless and not found else "",
        notes=asked.notes,
    )


def _is_headless(service: Service) -> bool:
    return not service.cluster_ips and service.external_name is None


def _by_hostname(ready: Iterable[SliceEndpoint]) -> Iterator[tuple[str, tuple[Address, ...]]]:
    """Yield pods with a hostname and their addresses, which stand in one slice for each family."""
    pods: dict[str, dict[Address, None]] = {}
    for endpoint in ready:
        if endpoint.hostname and endpoint.addresses:
            pods.setdefault(endpoint.hostname, {}).update(dict.fromkeys(endpoint.addresses))
    for hostname, addresses in pods.items():
        yield hostname, tuple(addresses)


def _shortened(whole: Candidate, shorts: Iterable[str], kind: Kind) -> Iterator[Candidate]:
    for short in shorts:
        yield Candidate(short, kind, whole.visibility, whole.meta, whole.part, whole.policy, short_of=whole.host)
