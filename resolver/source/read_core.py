"""Mapping to value for the kinds of Kubernetes itself: Service and EndpointSlice.

Only what names and addresses need is read; the rest was judged by the API server that these objects come from.
https://kubernetes.io/docs/reference/kubernetes-api/service-resources
"""

from __future__ import annotations

from typing import Final

from meshdns.resolver.source import fields, rules, syntax
from meshdns.resolver.source.entry import Address, EndpointSlice, Meta, Port, Service, SliceEndpoint
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields

_SERVICE_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_SLICE_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"})
_SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"


def read_service(root: Fields, meta: Meta, report: Report) -> Service:
    """Return the Service that `root` describes."""
    fields.check_known(root, _SERVICE_FIELDS, (), report)
    at: Path = ("spec",)
    spec = fields.mapping(root, "spec", (), report)
    external = fields.text(spec, "type", at, report) == "ExternalName"
    return Service(
        meta,
        () if external else _cluster_ips(spec, at, report),
        _ports(spec, at, report),
        _external_name(spec, at, report) if external else None,
        fields.boolean(spec, "publishNotReadyAddresses", at, report, default=False),
    )


def _cluster_ips(spec: Fields, at: Path, report: Report) -> tuple[Address, ...]:
    listed = fields.texts(spec, "clusterIPs", at, report)
    key: Path = (*at, "clusterIPs")
    if not listed:
        first = fields.text(spec, "clusterIP", at, report)
        listed, key = [first] if first else [], (*at, "clusterIP")
    found = []
    for text in listed:
        address = syntax.address(text)
        if address is not None:
            found.append(address)
        elif text not in {"None", ""}:  # headless, or not given one yet
            report.add(rules.ADDRESS_SYNTAX, key, f"{text[:64]!r} is not an IP address")
    return tuple(dict.fromkeys(found))


def _external_name(spec: Fields, at: Path, report: Report) -> str:
    name = fields.text(spec, "externalName", at, report)
    if not syntax.is_domain(name):
        report.add(rules.HOST_SYNTAX, (*at, "externalName"), f"{name[:64]!r} is not a domain name")
    return syntax.host_key(name)


def _ports(spec: Fields, at: Path, report: Report) -> tuple[Port, ...]:
    found = []
    for index, item in enumerate(fields.items(spec, "ports", at, report)):
        where: Path = (*at, "ports", index)
        if not isinstance(item, Fields):
            report.add(rules.WRONG_TYPE, where, f"must be a mapping, not {fields.kind_of(item)}")
            continue
        number = fields.integer(item, "port", where, report)
        if number is None or not syntax.is_port(number):
            report.add(rules.PORT_RANGE, (*where, "port"), "must be a port from 1 to 65535")
            continue
        protocol = fields.text(item, "protocol", where, report).upper()
        found.append(Port(number, fields.text(item, "name", where, report), protocol or "TCP"))
    return tuple(found)


def read_endpoint_slice(root: Fields, meta: Meta, report: Report) -> EndpointSlice:
    """Return the EndpointSlice that `root` describes. One of names (addressType FQDN) has no endpoints for us."""
    fields.check_known(root, _SLICE_FIELDS, (), report)
    kind = fields.text(root, "addressType", (), report)
    listed = fields.items(root, "endpoints", (), report) if kind != "FQDN" else []
    found = []
    for index, item in enumerate(listed):
        where: Path = ("endpoints", index)
        if isinstance(item, Fields):
            found.append(_slice_endpoint(item, where, report))
        else:
            report.add(rules.WRONG_TYPE, where, f"must be a mapping, not {fields.kind_of(item)}")
    return EndpointSlice(meta, meta.labels.get(_SERVICE_NAME_LABEL, ""), tuple(found))


def _slice_endpoint(item: Fields, where: Path, report: Report) -> SliceEndpoint:
    addresses = []
    for index, text in enumerate(fields.texts(item, "addresses", where, report)):
        address = syntax.address(text)
        if address is None:
            report.add(rules.ADDRESS_SYNTAX, (*where, "addresses", index), f"{text[:64]!r} is not an IP address")
        else:
            addresses.append(address)
    conditions = fields.mapping(item, "conditions", where, report)
    ready = fields.boolean(conditions, "ready", (*where, "conditions"), report, default=True)
    hostname = fields.text(item, "hostname", where, report).lower()
    if hostname and not syntax.DNS_LABEL.fullmatch(hostname):
        report.add(rules.BAD_NAME, (*where, "hostname"), f"cannot be {hostname[:64]!r}")
    return SliceEndpoint(tuple(addresses), ready, hostname)
