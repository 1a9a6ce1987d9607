"""Entries as the manifests that they would be read from: the way back from `source.read`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from meshdns.resolver.source.entry import (
    Endpoint,
    EndpointSlice,
    Entry,
    Meta,
    Port,
    Service,
    ServiceEntry,
    SliceEndpoint,
    WorkloadEntry,
)

ISTIO = "networking.istio.io/v1"


def manifests(entries: Iterable[Entry]) -> str:
    """Return one YAML text of all of them; each document is JSON, which is YAML."""
    return "\n---\n".join(json.dumps(_object(entry, number), indent=1) for number, entry in enumerate(entries))


def _object(entry: Entry, number: int) -> dict[str, Any]:
    match entry:
        case ServiceEntry():
            return _of(ISTIO, entry, _metadata(entry.meta), _service_entry(entry)) | _status(entry)
        case WorkloadEntry():
            named = _metadata(entry.meta) | {"name": f"workload-{number}"}
            return _of(ISTIO, entry, named, {**_endpoint(entry.endpoint), "labels": dict(entry.endpoint.labels)})
        case Service():
            return _of("v1", entry, _metadata(entry.meta), _service(entry))
        case EndpointSlice():
            labels = {"kubernetes.io/service-name": entry.service}
            named = _metadata(entry.meta) | {"name": f"slice-{number}", "labels": labels}
            return _of("discovery.k8s.io/v1", entry, named, None) | _slice(entry)


def _of(version: str, entry: Entry, metadata: Mapping[str, Any], spec: Mapping[str, Any] | None) -> dict[str, Any]:
    made: dict[str, Any] = {"apiVersion": version, "kind": type(entry).__name__, "metadata": metadata}
    return made if spec is None else made | {"spec": dict(_without_empty(spec))}


def _without_empty(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in fields.items() if value not in (None, [], {}, ""))


def _metadata(meta: Meta) -> dict[str, Any]:
    created = None
    if meta.created is not None:
        created = datetime.fromtimestamp(meta.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {
        "name": meta.name.replace("*", "any"),
        "namespace": meta.namespace,
        "creationTimestamp": created,
        "labels": dict(meta.labels),
        "annotations": dict(meta.annotations),
    }
    return dict(_without_empty(fields))


def _service_entry(entry: ServiceEntry) -> dict[str, Any]:
    return {
        "hosts": list(entry.hosts),
        "addresses": list(map(str, entry.addresses)),
        "ports": [_port(port) for port in entry.ports if port.name],  # the API server refuses one without
        "resolution": str(entry.resolution),
        "endpoints": list(map(_endpoint, entry.endpoints)),
        "workloadSelector": None if entry.selector is None else {"labels": dict(entry.selector)},
        "exportTo": list(entry.export_to),
    }


def _status(entry: ServiceEntry) -> dict[str, Any]:
    found = [
        {"host": host, "value": str(address)} for host, all_of in entry.status_addresses.items() for address in all_of
    ]
    return {"status": {"addresses": found}} if found else {}


def _port(port: Port) -> dict[str, Any]:
    return dict(_without_empty({"number": port.number, "name": port.name, "protocol": port.protocol}))


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {"address": endpoint.address}


def _service(service: Service) -> dict[str, Any]:
    kind = {"type": "ExternalName", "externalName": service.external_name} if service.external_name else {}
    ports = [{"port": port.number, "name": port.name, "protocol": port.protocol} for port in service.ports]
    addresses = list(map(str, service.cluster_ips)) or ["None"]
    return {
        **(kind or {"clusterIP": addresses[0], "clusterIPs": addresses}),
        "ports": ports,
        "publishNotReadyAddresses": service.publish_not_ready or None,
    }


def _slice(of: EndpointSlice) -> dict[str, Any]:
    def one(each: SliceEndpoint) -> dict[str, Any]:
        made = {"addresses": list(map(str, each.addresses)), "conditions": {"ready": each.ready}}
        return made | ({"hostname": each.hostname} if each.hostname else {})

    first = of.endpoints[0].addresses[0]
    return {"addressType": f"IPv{first.version}", "endpoints": list(map(one, of.endpoints))}
