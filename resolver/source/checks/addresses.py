"""Rules for spec.addresses beyond their syntax (SE014, SE102)."""

from __future__ import annotations

from typing import Final

from meshdns.resolver.source import rules
from meshdns.resolver.source.entry import Resolution, ServiceEntry
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields, Items

MAX_ADDRESSES: Final = 256
_PATH: Final[Path] = ("spec", "addresses")


def check(entry: ServiceEntry, spec: Fields, report: Report) -> None:
    """Report what is wrong with the entry's addresses."""
    written = spec.get("addresses")
    if not isinstance(written, Items):
        return
    if len(written) > MAX_ADDRESSES:
        report.add(rules.TOO_MANY_ADDRESSES, _PATH, f"{len(written)} addresses: at most {MAX_ADDRESSES} are allowed")
    blocks_allowed = entry.resolution in {Resolution.NONE, Resolution.STATIC}
    for index, text in enumerate(written):
        if isinstance(text, str) and "/" in text and not blocks_allowed:
            reason = f"{str(text)!r}: CIDR addresses are not allowed with resolution {entry.resolution}"
            report.add(rules.ADDRESS_CIDR_RESOLUTION, (*_PATH, index), reason)
