"""Rules for one endpoint, of a ServiceEntry or as a WorkloadEntry (SE026-SE033, SE037, SE106-SE110, SE113).

An endpoint may be an IP address, a Unix socket (resolution STATIC) or a domain name (resolution DNS).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from meshdns.resolver.source import rules, syntax
from meshdns.resolver.source.entry import Endpoint, Resolution, ServiceEntry, WorkloadEntry
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields

UNIX: Final = "unix://"
MAX_ENDPOINTS: Final = 4096
MAX_ADDRESS_CHARS: Final = 256
MAX_PORTS: Final = 128
MAX_PORT_NAME_CHARS: Final = 62
MAX_LABELS: Final = 256
MAX_WEIGHT: Final = 2**32 - 1
_MAX_TEXT_CHARS: Final = {"locality": 2048, "network": 2048, "serviceAccount": 253}


def check(entry: ServiceEntry, spec: Fields, report: Report) -> None:
    """Report what is wrong with the entry's endpoints, which STATIC and DNS look at differently."""
    written = [item for item in spec.get("endpoints") or () if isinstance(item, Fields)]
    if len(written) > MAX_ENDPOINTS:
        reason = f"{len(written)} endpoints: at most {MAX_ENDPOINTS} are allowed"
        report.add(rules.TOO_MANY_ENDPOINTS, ("spec", "endpoints"), reason)
    names = {port.name for port in entry.ports}
    for index, (endpoint, item) in enumerate(zip(entry.endpoints, written, strict=True)):
        at: Path = ("spec", "endpoints", index)
        _check_size(endpoint, item, at, report)
        if endpoint.ports:
            _check_ports(endpoint, at, names, report)
        if entry.resolution is Resolution.STATIC:
            _check_static(endpoint, item, at, entry, report)
        elif not syntax.is_address(endpoint.address) and not syntax.is_domain(endpoint.address):
            reason = f"{endpoint.address[:64]!r} is neither a domain name nor an IP address"
            report.add(rules.DNS_ENDPOINT, (*at, "address"), reason)


def check_workload(entry: WorkloadEntry, spec: Fields, report: Report) -> None:
    """Report what is wrong with a WorkloadEntry: its spec is one endpoint of either sort."""
    endpoint = entry.endpoint
    _check_size(endpoint, spec, ("spec",), report)
    _check_ports(endpoint, ("spec",), None, report)
    if endpoint.address.startswith(UNIX):
        _check_unix(endpoint, ("spec",), report)
    elif not endpoint.address:
        _check_missing(spec, ("spec",), report)
    elif not syntax.is_address(endpoint.address) and not syntax.is_domain(endpoint.address):
        reason = f"{endpoint.address[:64]!r} is neither a domain name nor an IP address"
        report.add(rules.DNS_ENDPOINT, ("spec", "address"), reason)


def _check_static(endpoint: Endpoint, item: Fields, at: Path, entry: ServiceEntry, report: Report) -> None:
    if endpoint.address.startswith(UNIX):
        _check_unix(endpoint, at, report)
        if len(entry.ports) != 1:
            reason = f"a unix endpoint needs exactly one port in the entry, not {len(entry.ports)}"
            report.add(rules.ENDPOINT_UNIX_ONE_PORT, at, reason)
    elif not endpoint.address:
        _check_missing(item, at, report)
    elif not syntax.is_address(endpoint.address):
        report.add(rules.ENDPOINT_NOT_IP, (*at, "address"), f"{endpoint.address[:64]!r} is not a valid IP address")


def _check_missing(item: Fields, at: Path, report: Report) -> None:
    if item.get("network"):
        report.add(rules.ENDPOINT_NETWORK_ONLY, at, f"the address is unset, with network {str(item['network'])[:64]!r}")
    else:
        report.add(rules.ENDPOINT_ADDRESS_MISSING, at, "an endpoint must have an address")


def _check_unix(endpoint: Endpoint, at: Path, report: Report) -> None:
    path = endpoint.address.removeprefix(UNIX)
    if not path.startswith(("/", "@")):
        report.add(
            rules.ENDPOINT_UNIX_PATH, (*at, "address"), "a unix address must be an absolute path or start with '@'"
        )
    elif path.endswith("/"):
        report.add(rules.ENDPOINT_UNIX_PATH, (*at, "address"), "a unix address must not end with '/'")
    if endpoint.ports:
        report.add(rules.ENDPOINT_UNIX_PORTS, (*at, "ports"), "a unix endpoint must not have ports")


def _check_ports(endpoint: Endpoint, at: Path, names: Collection[str] | None, report: Report) -> None:
    """Report on an endpoint's ports; `names` are the ports of the entry, None where that is not known."""
    if len(endpoint.ports) > MAX_PORTS:
        report.add(rules.ENDPOINT_TOO_MANY_PORTS, (*at, "ports"), f"{len(endpoint.ports)} ports")
    for name, number in endpoint.ports.items():
        where: Path = (*at, "ports", name)
        if not syntax.DNS_LABEL.fullmatch(name) or len(name) > MAX_PORT_NAME_CHARS:
            report.add(rules.ENDPOINT_PORT, where, f"{name[:64]!r} is not a port name")
        elif names is not None and name not in names:
            report.add(rules.ENDPOINT_PORT_UNDEFINED, where, f"port {name!r} is not defined by the entry")
        if not syntax.is_port(number):
            report.add(rules.ENDPOINT_PORT, where, f"{number} is not a port: 1 to {syntax.MAX_PORT}")


def _check_size(endpoint: Endpoint, item: Fields, at: Path, report: Report) -> None:
    if len(endpoint.address) > MAX_ADDRESS_CHARS:
        report.add(rules.ENDPOINT_ADDRESS_LENGTH, (*at, "address"), f"{len(endpoint.address)} characters long")
    if not 0 <= endpoint.weight <= MAX_WEIGHT:
        report.add(rules.WEIGHT, (*at, "weight"), f"{endpoint.weight} is not a weight: 0 to {MAX_WEIGHT}")
    if len(item) == 1:  # an address alone
        return
    if len(endpoint.labels) > MAX_LABELS:
        report.add(rules.ENDPOINT_TOO_MANY_LABELS, (*at, "labels"), f"{len(endpoint.labels)} labels")
    for key, value in endpoint.labels.items():
        if not syntax.is_label(key, value):
            report.add(rules.BAD_LABEL, (*at, "labels", key), f"cannot be {value[:64]!r}")
    for key, limit in _MAX_TEXT_CHARS.items():
        text = item.get(key)
        if isinstance(text, str) and len(text) > limit:
            report.add(rules.ENDPOINT_TEXT_LENGTH, (*at, key), f"{len(text)} characters: at most {limit} are allowed")
