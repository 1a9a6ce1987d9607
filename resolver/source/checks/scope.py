"""Rules for whom an entry selects and who sees it: workloadSelector, exportTo, location (SE001-SE004, SE047-SE050)."""

from __future__ import annotations

from typing import Final

from meshdns.resolver.source import rules, syntax
from meshdns.resolver.source.entry import ServiceEntry
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields

PUBLIC: Final = "*"
NOBODY: Final = "~"
OWN: Final = "."
MAX_SELECTOR_LABELS: Final = 256
MAX_SELECTOR_VALUE_CHARS: Final = 63
_LOCATIONS: Final = frozenset({"MESH_EXTERNAL", "MESH_INTERNAL"})


def check_selector(entry: ServiceEntry, spec: Fields, report: Report) -> None:
    """Report what is wrong with the entry's workloadSelector."""
    selector = entry.selector
    if selector is None:
        return
    at: Path = ("spec", "workloadSelector")
    if not selector:
        report.add(
            rules.SELECTOR_WITHOUT_LABELS, at, "a selector without labels applies to all workloads of the namespace"
        )
    if spec.get("endpoints") is not None:
        report.add(rules.SELECTOR_AND_ENDPOINTS, at, "only one of workloadSelector and endpoints is allowed")
    if len(selector) > MAX_SELECTOR_LABELS:
        report.add(rules.SELECTOR_SIZE, at, f"{len(selector)} labels: at most {MAX_SELECTOR_LABELS} are allowed")
    for key, value in selector.items():
        where: Path = (*at, "labels", key)
        if not key:
            report.add(rules.SELECTOR_EMPTY_KEY, where, "a selector's key may not be empty")
        if "*" in key or "*" in value:
            report.add(rules.SELECTOR_WILDCARD, where, "a selector may not hold a wildcard")
        if len(value) > MAX_SELECTOR_VALUE_CHARS:
            report.add(
                rules.SELECTOR_SIZE, where, f"{len(value)} characters: at most {MAX_SELECTOR_VALUE_CHARS} are allowed"
            )


def check_export(entry: ServiceEntry, _spec: Fields, report: Report) -> None:
    """Report what is wrong with the entry's exportTo."""
    at: Path = ("spec", "exportTo")
    seen: set[str] = set()
    for index, written in enumerate(entry.export_to):
        if written not in {PUBLIC, NOBODY, OWN} and not syntax.DNS_LABEL.fullmatch(written):
            report.add(rules.EXPORT_SYNTAX, (*at, index), f"{written[:64]!r} is not a namespace")
        namespace = entry.meta.namespace if written == OWN else written
        if namespace in seen:
            report.add(rules.EXPORT_REPEATED, (*at, index), f"{written[:64]!r} is given twice")
        seen.add(namespace)
    if len(seen) > 1 and PUBLIC in seen:
        report.add(rules.EXPORT_PUBLIC_AND_MORE, at, "'*' and other namespaces exclude each other")
    if len(seen) > 1 and NOBODY in seen:
        report.add(rules.EXPORT_NOBODY_AND_MORE, at, "'~' (no one) and other namespaces exclude each other")


def check_location(_entry: ServiceEntry, spec: Fields, report: Report) -> None:
    """Report a location that does not exist."""
    location = spec.get("location")
    if location is not None and location not in _LOCATIONS:
        report.add(rules.LOCATION, ("spec", "location"), f"{str(location)[:64]!r} is not a location")
