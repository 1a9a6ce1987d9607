"""What entries say against each other: rules that need more than one of them. Pure.

Whether two entries meet depends on exportTo: those that no namespace sees both of do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshdns.resolver.source import rules
from meshdns.resolver.source.checks.scope import NOBODY, OWN, PUBLIC
from meshdns.resolver.source.entry import Entry, ServiceEntry
from meshdns.resolver.source.problem import Problem


def conflicts(entries: Iterable[Entry]) -> list[Problem]:
    """Return what is wrong between `entries`; each problem stands at the later of two, in the order given."""
    by_host: dict[str, list[ServiceEntry]] = {}
    for entry in entries:
        if isinstance(entry, ServiceEntry):
            for host in entry.hosts:
                by_host.setdefault(host, []).append(entry)
    return [
        problem
        for host, naming in by_host.items()
        if len(naming) > 1
        for problem in _contradicting_protocols(host, naming)
    ]


def _contradicting_protocols(host: str, naming: list[ServiceEntry]) -> Iterator[Problem]:
    """Yield a problem for each port whose protocol an earlier entry of the host, seen beside it, gives otherwise."""
    declared: dict[int, dict[str, ServiceEntry]] = {}
    for entry in naming:
        for index, port in enumerate(entry.ports):
            earlier = declared.setdefault(port.number, {})
            for protocol, other in earlier.items():
                if protocol != port.protocol and other is not entry and seen_together(entry, other):
                    yield _contradiction(host, entry, f"spec.ports[{index}].protocol", other, (port.protocol, protocol))
                    break
            earlier.setdefault(port.protocol, entry)


def _contradiction(
    host: str, entry: ServiceEntry, field: str, other: ServiceEntry, protocols: tuple[str, str]
) -> Problem:
    rule, origin = rules.PROTOCOL_CONFLICT, entry.meta.origin
    own, theirs = (protocol or "no protocol" for protocol in protocols)
    reason = f"{own} for {host}, but {theirs} at {other.meta.origin}"
    return Problem(origin.file, origin.line, field, rule.id, rule.level, reason, rule.fix)


def seen_together(one: ServiceEntry, other: ServiceEntry) -> bool:
    """Return whether some namespace sees both entries."""
    first, second = _seen_in(one), _seen_in(other)
    if first is None or second is None:
        return first != frozenset() and second != frozenset()
    return not first.isdisjoint(second)


def _seen_in(entry: ServiceEntry) -> frozenset[str] | None:
    """Return the namespaces that see the entry; None for all of them."""
    if not entry.export_to or PUBLIC in entry.export_to:
        return None
    own = entry.meta.namespace
    return frozenset(own if written == OWN else written for written in entry.export_to if written != NOBODY)
