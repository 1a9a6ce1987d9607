"""Rules for spec.ports: numbers, names, protocols (SE016-SE021, SE104, SE105), and which protocols are alike."""

from __future__ import annotations

from typing import Final

from meshdns.resolver.source import rules, syntax
from meshdns.resolver.source.entry import Port, ServiceEntry
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields

HTTP_LIKE: Final = frozenset({"HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB"})
TLS_LIKE: Final = frozenset({"HTTPS", "TLS"})
TCP_LIKE: Final = TLS_LIKE | {"TCP", "MONGO", "REDIS", "MYSQL"}
PROTOCOLS: Final = HTTP_LIKE | TCP_LIKE | {"UDP"}

MAX_PORTS: Final = 256
MAX_TEXT_CHARS: Final = 256


def check(entry: ServiceEntry, _spec: Fields, report: Report) -> None:
    """Report what is wrong with the entry's ports."""
    at: Path = ("spec", "ports")
    if len(entry.ports) > MAX_PORTS:
        report.add(rules.TOO_MANY_PORTS, at, f"{len(entry.ports)} ports: at most {MAX_PORTS} are allowed")
    for index, port in enumerate(entry.ports):
        if not _is_fine(port):
            _check_port(port, (*at, index), report)
    if len(entry.ports) > 1:
        _check_repeated(entry.ports, at, report)


def _is_fine(port: Port) -> bool:
    return (
        syntax.is_port(port.number)
        and (port.target_port is None or syntax.is_port(port.target_port))
        and syntax.DNS_LABEL.fullmatch(port.name) is not None
        and (not port.protocol or port.protocol in PROTOCOLS)
    )


def _check_port(port: Port, at: Path, report: Report) -> None:
    if not syntax.is_port(port.number):
        report.add(rules.PORT_RANGE, (*at, "number"), f"{port.number} is not a port: 1 to {syntax.MAX_PORT}")
    if port.target_port is not None and not syntax.is_port(port.target_port):
        reason = f"{port.target_port} is not a port: 1 to {syntax.MAX_PORT}"
        report.add(rules.PORT_TARGET_RANGE, (*at, "targetPort"), reason)
    if not syntax.DNS_LABEL.fullmatch(port.name):
        report.add(rules.PORT_NAME_SYNTAX, (*at, "name"), f"{port.name[:64]!r} is not a port name")
    if port.protocol and port.protocol not in PROTOCOLS:
        report.add(rules.PORT_PROTOCOL, (*at, "protocol"), f"{port.protocol[:64]!r} is not a protocol")
    for key, text in (("name", port.name), ("protocol", port.protocol)):
        if len(text) > MAX_TEXT_CHARS:
            report.add(rules.PORT_TEXT_LENGTH, (*at, key), f"{len(text)} characters long")


def _check_repeated(ports: tuple[Port, ...], at: Path, report: Report) -> None:
    names: set[str] = set()
    numbers: set[int] = set()
    for index, port in enumerate(ports):
        if port.name in names:
            report.add(rules.PORT_NAME_REPEATED, (*at, index, "name"), f"{port.name[:64]!r} is already a port's name")
        if port.number in numbers:
            report.add(rules.PORT_NUMBER_REPEATED, (*at, index, "number"), f"port {port.number} is already declared")
        names.add(port.name)
        numbers.add(port.number)
