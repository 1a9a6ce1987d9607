"""Rules that depend on spec.resolution: what each of the five allows (SE022-SE024, SE035-SE044, SE046)."""

from __future__ import annotations

from typing import Final

from meshdns.resolver.source import rules, syntax
from meshdns.resolver.source.checks import endpoints
from meshdns.resolver.source.checks.ports import HTTP_LIKE, TCP_LIKE, TLS_LIKE
from meshdns.resolver.source.entry import Resolution, ServiceEntry, allows_lease
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields

_DYNAMIC_PROTOCOLS: Final = frozenset({"HTTP", "HTTP2", "GRPC", "TLS"})
_WAYPOINT_LABEL: Final = "istio.io/use-waypoint"


def check(entry: ServiceEntry, spec: Fields, report: Report) -> None:
    """Report what the entry's resolution does not allow."""
    match entry.resolution:
        case Resolution.NONE:
            _check_none(entry, spec, report)
        case Resolution.STATIC:
            endpoints.check(entry, spec, report)
        case Resolution.DNS | Resolution.DNS_ROUND_ROBIN:
            _check_dns(entry, spec, report)
            endpoints.check(entry, spec, report)
        case Resolution.DYNAMIC_DNS:
            _check_dynamic(entry, spec, report)
    _check_shared_ports(entry, report)
    _check_address_needed(entry, report)


def _check_none(entry: ServiceEntry, spec: Fields, report: Report) -> None:
    if spec.get("endpoints") is not None:  # present but empty is refused by the API server as well
        report.add(rules.NONE_ENDPOINTS, ("spec", "endpoints"), "resolution NONE allows no endpoints")
    if entry.selector is not None:
        report.add(rules.NONE_SELECTOR, ("spec", "workloadSelector"), "should not be set with resolution NONE")


def _check_dns(entry: ServiceEntry, spec: Fields, report: Report) -> None:
    if not entry.endpoints:
        for index, host in enumerate(spec.get("hosts") or ()):
            if isinstance(host, str) and not syntax.is_domain(host) and syntax.is_wildcard_domain(host):
                reason = f"{str(host)[:64]!r} cannot be resolved: {entry.resolution} without endpoints needs full names"
                report.add(rules.DNS_HOST_WILDCARD, ("spec", "hosts", index), reason)
    if entry.resolution is Resolution.DNS_ROUND_ROBIN and len(entry.endpoints) > 1:
        reason = f"resolution DNS_ROUND_ROBIN allows one endpoint, not {len(entry.endpoints)}"
        report.add(rules.DNS_ROUND_ROBIN_ENDPOINTS, ("spec", "endpoints"), reason)
    if entry.addresses and len(entry.hosts) > 1 and any(port.protocol in TCP_LIKE for port in entry.ports):
        reason = "several hosts share an address, and a TCP port cannot tell them apart"
        report.add(rules.HOSTS_SHARE_ADDRESS, ("spec", "hosts"), reason)


def _check_dynamic(entry: ServiceEntry, spec: Fields, report: Report) -> None:
    for index, host in enumerate(spec.get("hosts") or ()):
        if isinstance(host, str) and not host.startswith("*"):
            report.add(rules.DYNAMIC_HOST, ("spec", "hosts", index), f"{str(host)[:64]!r} must be a wildcard")
    if entry.addresses:
        report.add(rules.DYNAMIC_ADDRESSES, ("spec", "addresses"), "resolution DYNAMIC_DNS allows no addresses")
    if entry.endpoints:
        report.add(rules.DYNAMIC_ENDPOINTS, ("spec", "endpoints"), "resolution DYNAMIC_DNS allows no endpoints")
    for index, port in enumerate(entry.ports):
        if port.protocol not in _DYNAMIC_PROTOCOLS:
            at: Path = ("spec", "ports", index, "protocol")
            report.add(
                rules.DYNAMIC_PROTOCOL, at, f"{port.protocol[:64]!r} is not supported with resolution DYNAMIC_DNS"
            )
    if spec.get("location") == "MESH_INTERNAL" and entry.meta.labels.get(_WAYPOINT_LABEL, "") not in {"", "none"}:
        report.add(rules.DYNAMIC_WAYPOINT, ("spec", "location"), "MESH_INTERNAL is not supported when using waypoints")


def _check_shared_ports(entry: ServiceEntry, report: Report) -> None:
    if entry.resolution is Resolution.NONE or len(entry.hosts) < 2:  # noqa: PLR2004 - "several"
        return
    for index, port in enumerate(entry.ports):
        if port.protocol not in HTTP_LIKE and port.protocol not in TLS_LIKE:
            reason = f"several hosts, and {port.protocol or 'an unset protocol'} does not carry which one is meant"
            report.add(rules.HOSTS_SHARE_PORT, ("spec", "ports", index, "protocol"), reason)


def _check_address_needed(entry: ServiceEntry, report: Report) -> None:
    if entry.addresses or (entry.resolution is not Resolution.NONE and allows_lease(entry.meta)):
        return
    for index, port in enumerate(entry.ports):
        if port.protocol in {"", "TCP"}:
            reason = f"nothing but the address tells the connections of port {port.number} apart, and there is none"
            report.add(rules.ADDRESS_NEEDED, ("spec", "ports", index), reason)
