"""Rules for spec.hosts: how a host is spelled, and how many there may be (SE005-SE011, SE101, L001)."""

from __future__ import annotations

from typing import Final

from meshdns.resolver.source import rules, syntax
from meshdns.resolver.source.entry import Resolution, ServiceEntry
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields, Items

MAX_HOSTS: Final = 256
_PATH: Final[Path] = ("spec", "hosts")


def check(entry: ServiceEntry, spec: Fields, report: Report) -> None:
    """Report what is wrong with the entry's hosts."""
    written = spec.get("hosts")
    if not isinstance(written, Items) or not written:
        if entry.resolution is Resolution.DYNAMIC_DNS:
            report.add(rules.DYNAMIC_NO_HOST, _PATH, "at least one wildcard host must be given")
        else:
            report.add(rules.NO_HOST, _PATH, "there must be at least one host")
        return
    if len(written) > MAX_HOSTS:
        report.add(rules.TOO_MANY_HOSTS, _PATH, f"{len(written)} hosts: at most {MAX_HOSTS} are allowed")
    for index, host in enumerate(written):
        if isinstance(host, str) and not syntax.is_domain(host):
            _check_unusual(host, (*_PATH, index), entry.resolution, report)
    if len(entry.hosts) != len(written):
        _check_repeated(written, report)


def _check_unusual(host: str, at: Path, resolution: Resolution, report: Report) -> None:
    """Report on a host that is no plain domain name: a wildcard, or wrong."""
    shown = repr(str(host)[:64])
    if not host:
        report.add(rules.HOST_LENGTH, at, "a host may not be empty")
    elif len(host) > syntax.MAX_NAME_CHARS:
        reason = f"{shown}… has {len(host)} characters: at most {syntax.MAX_NAME_CHARS} are allowed"
        report.add(rules.HOST_LENGTH, at, reason)
    elif host == "*":
        report.add(rules.HOST_STAR, at, "a host may not be '*'")
    elif syntax.has_numeric_top(host):
        report.add(rules.HOST_NUMERIC_TOP, at, f"{shown} ends in a label of digits alone")
    elif not syntax.is_wildcard_domain(host):
        report.add(rules.HOST_SYNTAX, at, f"{shown} is not a domain name{_culprit(host)}")
    elif not host.startswith("*.") and resolution is not Resolution.DYNAMIC_DNS:
        report.add(rules.HOST_PARTIAL_WILDCARD, at, f"{shown} is a partial wildcard")


def _culprit(host: str) -> str:
    """Return which label of `host` is wrong, for a message."""
    for position, label in enumerate(host.removesuffix(".").split(".")):
        if not syntax.is_domain(label + ".x") and not (position == 0 and syntax.is_wildcard_domain(label + ".x")):
            return f": label {label[:64]!r}"
    return ""


def _check_repeated(written: Items, report: Report) -> None:
    seen: set[str] = set()
    for index, host in enumerate(written):
        key = syntax.host_key(str(host))
        if key in seen:
            report.add(rules.DUPLICATE_HOST, (*_PATH, index), f"{key[:64]!r} is given twice")
        seen.add(key)
