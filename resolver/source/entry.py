"""The objects that names come from, as values: ServiceEntry, WorkloadEntry, Service, EndpointSlice.

A value here is well-typed and complete but not yet judged: whether it keeps the rules of its kind is for `validate`.
Field meanings: istio.io/docs/reference/config/networking/service-entry and the Kubernetes API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


NOTHING: Final[Mapping[str, Any]] = {}
"""No labels, no ports: shared by all that have none, and never written to."""


class Origin(NamedTuple):
    """Where an object stands: the file's path as it was given, and the line of the document's first key, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


AUTO_ALLOCATE_LABEL: Final = "networking.istio.io/enable-autoallocate-ip"


class Resolution(StrEnum):
    """How an entry's endpoints are found."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"


class Meta(NamedTuple):
    """What every object has. `created` is metadata.creationTimestamp in seconds since the epoch, if there is one."""

    origin: Origin
    namespace: str
    name: str
    created: float | None = None
    labels: Mapping[str, str] = NOTHING
    annotations: Mapping[str, str] = NOTHING


def allows_lease(meta: Meta) -> bool:
    """Return whether the entry leaves it to the mesh to give it addresses; only "false", in any case, says no."""
    return meta.labels.get(AUTO_ALLOCATE_LABEL, "").lower() != "false"


class Port(NamedTuple):
    """A declared port; `protocol` as written, upper-cased, empty when absent."""

    number: int
    name: str = ""
    protocol: str = ""
    target_port: int | None = None


class Endpoint(NamedTuple):
    """One endpoint: an IP address, a DNS name, or `unix://` and a path. `ports` are keyed by service port name."""

    address: str
    ports: Mapping[str, int] = NOTHING
    weight: int = 1
    labels: Mapping[str, str] = NOTHING


class ServiceEntry(NamedTuple):
    """networking.istio.io/{v1,v1beta1,v1alpha3} ServiceEntry.

    `hosts` are lower-case without a trailing dot. `addresses` holds plain addresses and networks; a /32 or /128 is an
    address. `status_addresses` maps a host to the addresses that status.addresses gives it.
    """

    meta: Meta
    hosts: tuple[str, ...]
    addresses: tuple[Address | Network, ...] = ()
    ports: tuple[Port, ...] = ()
    resolution: Resolution = Resolution.NONE
    endpoints: tuple[Endpoint, ...] = ()
    selector: Mapping[str, str] | None = None
    export_to: tuple[str, ...] = ()
    status_addresses: Mapping[str, tuple[Address, ...]] = NOTHING


class WorkloadEntry(NamedTuple):
    """networking.istio.io/{v1,v1beta1,v1alpha3} WorkloadEntry: an endpoint that selectors find by label."""

    meta: Meta
    endpoint: Endpoint


class Service(NamedTuple):
    """Core v1 Service. `cluster_ips` is empty for a headless one; `external_name` is set for ExternalName only."""

    meta: Meta
    cluster_ips: tuple[Address, ...] = ()
    ports: tuple[Port, ...] = ()
    external_name: str | None = None
    publish_not_ready: bool = False


class SliceEndpoint(NamedTuple):
    """One endpoint of an EndpointSlice."""

    addresses: tuple[Address, ...]
    ready: bool = True
    hostname: str = ""


class EndpointSlice(NamedTuple):
    """discovery.k8s.io/v1 EndpointSlice; `service` is its label kubernetes.io/service-name."""

    meta: Meta
    service: str
    endpoints: tuple[SliceEndpoint, ...] = ()


Entry = ServiceEntry | WorkloadEntry | Service | EndpointSlice
