"""Entries, leases and a scope become a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from meshdns.resolver.source.entry import Entry, Network
from meshdns.resolver.table.live import Assembler, Table
from meshdns.resolver.table.row import Common, Row

__all__ = ["Assembler", "Common", "Lease", "Row", "Scope", "Table", "build", "rows"]


class Lease(Protocol):
    """What is read of `allocate.Lease`."""

    @property
    def host(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def v4(self) -> IPv4Address: ...
    @property
    def v6(self) -> IPv6Address: ...


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose table it is and what goes into every answer. `pools` are those of the leases; names without root dot."""

    namespace: str
    cluster_domain: str
    search: tuple[str, ...]
    pools: tuple[Network, ...]
    ttl_s: int
    negative_ttl_s: int
    probe_suffix: str
    generation: int
    answer_endpoints: bool = False
    forward_other_types: bool = False


def rows(entries: Iterable[Entry], leases: Iterable[Lease], scope: Scope) -> tuple[Common, Iterator[Row]]:
    """Everything a table is made of, in the documented order; what a loading child sends to its parent."""
    raise NotImplementedError


def build(entries: Iterable[Entry], leases: Iterable[Lease], scope: Scope) -> Table:
    """The whole table at once."""
    common, found = rows(entries, leases, scope)
    assembler = Assembler(common)
    assembler.add(found)
    return assembler.finish()
