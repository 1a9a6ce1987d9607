"""The table that queries are answered from. It holds ready bytes; what they say was decided in `build`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from meshdns.resolver.table.row import Common, Row


class Match(NamedTuple):
    """What `Table.find` found for a name."""

    name: Name
    suffix: bytes


class Name:
    """One host in the live table."""

    __slots__ = ("a", "aaaa", "row")


class Table:
    """Every name of ours. Replaced whole; only `answer_leases` changes it.

    `names` by key (aliases included), `wildcards` by their parent's key, `addresses` (packed) -> name for PTR and
    `explain`, `rows`: every row in order, those that are forwarded included.
    """

    __slots__ = ("addresses", "common", "names", "rows", "servfail", "wildcards")
    common: Common
    names: Mapping[bytes, Name]
    wildcards: Mapping[bytes, Name]
    addresses: Mapping[bytes, Name]
    rows: list[Row]
    servfail: bool

    def answer_leases(self, *, ipv4: bool, ipv6: bool) -> None:
        """From now on answer leased addresses of these families only (entries with an annotation of their own aside)."""


class Assembler:
    """Builds a table step by step, so that the loop may turn in between."""

    def __init__(self, common: Common) -> None:
        self._common = common

    def add(self, rows: Iterable[Row]) -> None:
        """Take these rows over; about 10 us each."""

    def finish(self, *, ipv4: bool = True, ipv6: bool = True) -> Table:
        """Return the table; leases are answered in these families."""
        raise NotImplementedError
