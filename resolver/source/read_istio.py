"""Mapping to value for networking.istio.io: ServiceEntry and WorkloadEntry.

Here a field gets its type; whether the object keeps the rules of its kind is judged by `validate` afterwards.
https://istio.io/latest/docs/reference/config/networking/service-entry
"""

from __future__ import annotations

from typing import Final

from meshdns.resolver.source import fields, rules, syntax
from meshdns.resolver.source.entry import (
    Address,
    Endpoint,
    Entry,
    Meta,
    Network,
    Port,
    Resolution,
    ServiceEntry,
    WorkloadEntry,
    allows_lease,
)
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields

_OBJECT_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_ENTRY_FIELDS: Final = frozenset(
    {"addresses", "endpoints", "exportTo", "hosts", "location", "ports", "resolution", "subjectAltNames"}
    | {"workloadSelector"}
)
_PORT_FIELDS: Final = frozenset({"name", "number", "protocol", "targetPort"})
_ENDPOINT_FIELDS: Final = frozenset({"address", "labels", "locality", "network", "ports", "serviceAccount", "weight"})
_RESOLUTIONS: Final = {str(resolution): resolution for resolution in Resolution}
_SPEC: Final[Path] = ("spec",)


def read_service_entry(root: Fields, meta: Meta, report: Report) -> ServiceEntry:
    """Return the ServiceEntry that `root` describes."""
    fields.check_known(root, _OBJECT_FIELDS, (), report)
    spec = _spec(root, report)
    fields.check_known(spec, _ENTRY_FIELDS, _SPEC, report)
    resolution = _resolution(spec, report)
    addresses = _addresses(spec, report)
    hosts = dict.fromkeys(syntax.host_key(host) for host in fields.texts(spec, "hosts", _SPEC, report))
    return ServiceEntry(
        meta,
        tuple(hosts),
        addresses,
        _ports(spec, report),
        resolution,
        _endpoints(spec, report),
        _selector(spec, report),
        tuple(fields.texts(spec, "exportTo", _SPEC, report)),
        {} if addresses or resolution is Resolution.NONE or not allows_lease(meta) else _status_addresses(root),
    )


def read_workload_entry(root: Fields, meta: Meta, report: Report) -> WorkloadEntry:
    """Return the WorkloadEntry that `root` describes; metadata.labels win over spec.labels, as in Istio."""
    fields.check_known(root, _OBJECT_FIELDS, (), report)
    endpoint = _endpoint(_spec(root, report), _SPEC, report)
    labels = {**endpoint.labels, **meta.labels}
    return WorkloadEntry(meta, Endpoint(endpoint.address, endpoint.ports, endpoint.weight, labels))


def without_bare_networks(entry: Entry) -> Entry | None:
    """Return `entry` without endpoints that have a network and no address; None where nothing is left of it.

    They stand for another cluster's gateway, which nobody here knows.
    """
    if isinstance(entry, WorkloadEntry):
        return entry if entry.endpoint.address else None
    if isinstance(entry, ServiceEntry) and not all(endpoint.address for endpoint in entry.endpoints):
        return entry._replace(endpoints=tuple(endpoint for endpoint in entry.endpoints if endpoint.address))
    return entry


def _spec(root: Fields, report: Report) -> Fields:
    if root.get("spec") is None:
        report.add(rules.REQUIRED, _SPEC, "the object must have a spec")
    return fields.mapping(root, "spec", (), report)


def _resolution(spec: Fields, report: Report) -> Resolution:
    text = fields.text(spec, "resolution", _SPEC, report)
    if "resolution" not in spec or spec["resolution"] is None:
        return Resolution.NONE
    found = _RESOLUTIONS.get(text)
    if found is None:
        report.add(rules.RESOLUTION, (*_SPEC, "resolution"), f"{text[:64]!r} is not a resolution")
        return Resolution.NONE
    return found


def _addresses(spec: Fields, report: Report) -> tuple[Address | Network, ...]:
    found = []
    for index, text in enumerate(fields.texts(spec, "addresses", _SPEC, report)):
        block = "/" in text
        address = syntax.network(text) if block else syntax.address(text)
        if address is not None:
            found.append(address)
        elif block:
            reason = f"{text[:64]!r} is not a valid CIDR block"
            report.add(rules.ADDRESS_CIDR_SYNTAX, (*_SPEC, "addresses", index), reason)
        else:
            report.add(rules.ADDRESS_SYNTAX, (*_SPEC, "addresses", index), f"{text[:64]!r} is not a valid IP address")
    return tuple(dict.fromkeys(found)) if len(found) > 1 else tuple(found)


def _ports(spec: Fields, report: Report) -> tuple[Port, ...]:
    found = []
    for index, item in enumerate(fields.items(spec, "ports", _SPEC, report)):
        at: Path = ("spec", "ports", index)
        if item is None:
            report.add(rules.PORT_NULL, at, "a port may not be null")
        elif not isinstance(item, Fields):
            report.add(rules.WRONG_TYPE, at, f"must be a mapping, not {fields.kind_of(item)}")
        else:
            found.append(_port(item, at, report))
    return tuple(found)


def _port(item: Fields, at: Path, report: Report) -> Port:
    fields.check_known(item, _PORT_FIELDS, at, report)
    for key in ("number", "name"):
        if item.get(key) is None:
            report.add(rules.REQUIRED, (*at, key), f"a port must have a {key}")
    return Port(
        fields.integer(item, "number", at, report) or 0,
        fields.text(item, "name", at, report),
        fields.text(item, "protocol", at, report).upper(),
        fields.integer(item, "targetPort", at, report),
    )


def _endpoints(spec: Fields, report: Report) -> tuple[Endpoint, ...]:
    found = []
    for index, item in enumerate(fields.items(spec, "endpoints", _SPEC, report)):
        at: Path = ("spec", "endpoints", index)
        if item is None:
            report.add(rules.ENDPOINT_NULL, at, "an endpoint may not be null")
        elif not isinstance(item, Fields):
            report.add(rules.WRONG_TYPE, at, f"must be a mapping, not {fields.kind_of(item)}")
        else:
            found.append(_endpoint(item, at, report))
    return tuple(found)


def _endpoint(item: Fields, at: Path, report: Report) -> Endpoint:
    fields.check_known(item, _ENDPOINT_FIELDS, at, report)
    ports = {}
    for name in fields.mapping(item, "ports", at, report):
        number = fields.integer(item["ports"], name, (*at, "ports"), report)  # type: ignore[arg-type]
        ports[str(name)] = number or 0
    weight = fields.integer(item, "weight", at, report)
    labels = fields.text_map(item, "labels", at, report) if "labels" in item else {}
    return Endpoint(fields.text(item, "address", at, report), ports, weight or 1, labels)  # 0 is "not given" there


def _selector(spec: Fields, report: Report) -> dict[str, str] | None:
    if spec.get("workloadSelector") is None:
        return None
    selector = fields.mapping(spec, "workloadSelector", _SPEC, report)
    fields.check_known(selector, frozenset({"labels"}), (*_SPEC, "workloadSelector"), report)
    return fields.text_map(selector, "labels", (*_SPEC, "workloadSelector"), report)


def _status_addresses(root: Fields) -> dict[str, tuple[Address, ...]]:
    """Return what Istio's controller allocated. The status is its own: what does not parse there is passed over.

    The last address of each family counts, as for the sidecar.
    """
    status = root.get("status")
    listed = status.get("addresses") if isinstance(status, Fields) else None
    if not isinstance(listed, list):
        return {}
    found: dict[str, dict[int, Address]] = {}
    for item in listed:
        host, value = (item.get("host"), item.get("value")) if isinstance(item, Fields) else (None, None)
        address = syntax.address(value) if isinstance(value, str) else None
        if isinstance(host, str) and address is not None:
            found.setdefault(syntax.host_key(str(host)), {})[address.version] = address
    return {host: tuple(by_family[version] for version in sorted(by_family)) for host, by_family in found.items()}
