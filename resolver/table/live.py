"""The table that queries are answered from: ready bytes, and the ways a name is found among them.

It is replaced whole, so that nobody sees half of one; only `Table.answer_leases` changes it. What a name answers was
decided in `build`; what a question type gets is decided in `query.answer`. Nothing here may import a library.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from meshdns.resolver.table.names import label_starts, reversed_digits
from meshdns.resolver.table.ready import A_BYTES, A_KIND, AAAA_BYTES, AAAA_KIND, Answer, answer_of, section_counts
from meshdns.resolver.table.records import OWNER
from meshdns.resolver.table.row import Common, Row

_IPV4_BYTES: Final = 4
_UNDERSCORE: Final = 0x5F


class Name:
    """One host in the live table. `a` and `aaaa` are None where a CNAME stands instead."""

    __slots__ = ("a", "aaaa", "row")

    def __init__(self, row: Row, nodata: Answer) -> None:
        self.row = row
        self.a = None if row.cname else _answer(row.a, row.lease_a, A_BYTES, nodata)
        self.aaaa = None if row.cname else _answer(row.aaaa, row.lease_aaaa, AAAA_BYTES, nodata)


def _answer(always: bytes, leased: bytes, size: int, nodata: Answer) -> Answer:
    answer = answer_of(always, size) if always else nodata
    return answer_of(always + leased, size, answer) if leased else answer


class Match(NamedTuple):
    """What `Table.find` found.

    `stem`: how many bytes of the name asked are the name that was found, its root left out: all of them, or those in
    front of a search suffix. `service`: how many bytes of it are `_port._proto` in front of the host.
    """

    name: Name
    stem: int
    service: int = 0
    wildcard: bool = False


class Table:
    """Every name of ours.

    `search`: the search suffixes, longest first, with their numbers of labels. `names` by key (aliases too),
    `wildcards` by their parent's key, `addresses` (packed) to the name that PTR and `explain` give, `rows`: all rows in
    order, those of forwarded hosts included. `nodata` is the answer of an existing name without such records.
    `closed`: the types whose leases are not answered. `servfail`: nothing is loaded yet and the operator wants no
    forwarding before that.
    """

    __slots__ = (
        "_guarded",
        "_prefixes",
        "_wildcard_depths",
        "_zone_depths",
        "_zones",
        "addresses",
        "closed",
        "common",
        "names",
        "nodata",
        "rows",
        "search",
        "servfail",
        "wildcards",
    )

    def __init__(self, common: Common, *, servfail: bool = False) -> None:
        self.common = common
        self.servfail = servfail
        self.nodata = Answer(*section_counts(0, 1), OWNER + common.soa, None, 0)
        self.closed: frozenset[bytes] = frozenset()
        self.names: dict[bytes, Name] = {}
        self.wildcards: dict[bytes, Name] = {}
        self.addresses: dict[bytes, Name] = {}
        self.rows: list[Row] = []
        self._prefixes: set[str] = set()
        self.search = tuple([(suffix, len(label_starts(suffix))) for suffix in common.search])
        self._guarded = frozenset(common.guarded)
        self._zones = frozenset(common.zones)
        self._zone_depths = _depths(common.zones)
        self._wildcard_depths: tuple[int, ...] = ()

    def answer_leases(self, *, ipv4: bool, ipv6: bool) -> None:
        """From now on answer leased addresses of these families; entries with an annotation of their own stay."""
        families = ((A_KIND, ipv4), (AAAA_KIND, ipv6))
        self.closed = frozenset([kind for kind, answered in families if not answered])

    def current(self, answer: Answer, kind: bytes) -> Answer:
        """Return the answer, or the one without leases while those of this type are not answered."""
        return answer if answer.without is None or kind not in self.closed else answer.without

    def find(self, key: bytes, labels: tuple[int, ...], *, search: bool = True) -> Match | None:
        """Find a well-formed name, `labels` being the offsets of its labels: exact, then the longest wildcard.

        With `search` each step is tried for the name without a search suffix too, the longest suffix first.
        """
        stems = [(len(key) - 1, len(labels))]
        if search:
            stems += self._stems(key, labels)
        for stem, count in stems:
            match = self._exact(key, labels, stem, count)
            if match is not None:
                return match
        if self.wildcards:
            for stem, count in stems:
                match = self._longest_wildcard(key, labels, stem, count)
                if match is not None:
                    return match
        return None

    def _stems(self, key: bytes, labels: tuple[int, ...]) -> list[tuple[int, int]]:
        """Where a search suffix begins: its offset, and the number of labels in front of it."""
        found = []
        for suffix, depth in self.search:
            if key.endswith(suffix) and depth < len(labels):
                stem = len(key) - len(suffix)
                if labels[-depth] == stem:
                    found.append((stem, len(labels) - depth))
        return found

    def _exact(self, key: bytes, labels: tuple[int, ...], stem: int, count: int) -> Match | None:
        name = self.names.get(key[:stem] + b"\0")
        if name is not None:
            return Match(name, stem)
        if count < 2 or key[1] != _UNDERSCORE:  # noqa: PLR2004 - a service label needs a host behind it
            return None
        service = labels[1]
        whole = key[service + 1] == _UNDERSCORE
        if whole:
            if count == 2:  # noqa: PLR2004 - nothing behind `_port._proto`
                return None
            service = labels[2]
        name = self.names.get(key[service:stem] + b"\0")
        if name is None or not (whole or any(port.endswith(key[:service]) for port, _ in name.row.srv)):
            return None
        return Match(name, stem, service)

    def _longest_wildcard(self, key: bytes, labels: tuple[int, ...], stem: int, count: int) -> Match | None:
        expanded: bool | None = None
        for depth in self._wildcard_depths:
            if depth >= count:
                continue
            parent = key[labels[count - depth] : stem] + b"\0"
            name = self.wildcards.get(parent)
            if name is None:
                continue
            if parent in self._guarded:
                if expanded is None:
                    inner = self._stems(key[:stem] + b"\0", labels[:count])
                    expanded = bool(inner) and inner[0][1] >= 2  # noqa: PLR2004 - the rule's own number
                if expanded:
                    continue
            served = count - depth > 2 and key[1] == key[labels[1] + 1] == _UNDERSCORE  # noqa: PLR2004 - `_port._proto`
            return Match(name, stem, labels[2] if served else 0, wildcard=True)
        return None

    def reverse_zone(self, key: bytes, labels: tuple[int, ...]) -> int | None:
        """Return the offset at which the reverse zone of a pool begins in this name."""
        for depth in self._zone_depths:
            if depth <= len(labels) and key[labels[-depth] :] in self._zones:
                return labels[-depth]
        return None

    def has_addresses_below(self, digits: str) -> bool:
        """Tell whether a pool address in use starts with these digits: then its reverse name exists (RFC 8020)."""
        return digits in self._prefixes


def _depths(keys: Iterable[bytes]) -> tuple[int, ...]:
    """Return the numbers of labels that occur among the keys, largest first: only these are worth a look-up."""
    return tuple(sorted({len(label_starts(key)) for key in keys} - {0}, reverse=True))


class Assembler:
    """Builds a table step by step, so that the loop may turn in between."""

    def __init__(self, common: Common, *, ipv4: bool = True, ipv6: bool = True) -> None:
        """Start a table whose leases are answered in these families."""
        self._table = Table(common)
        self._table.answer_leases(ipv4=ipv4, ipv6=ipv6)
        digits = [reversed_digits(zone, label_starts(zone)) for zone in common.zones]
        self._pools = tuple(prefix for prefix in digits if prefix is not None)

    def add(self, rows: Iterable[Row]) -> None:
        """Take these rows over, each once and in order."""
        table = self._table
        for row in rows:
            table.rows.append(row)
            if row.unanswered:
                continue
            name = Name(row, table.nodata)
            if row.wildcard:
                table.wildcards[row.key] = name
            else:
                table.names[row.key] = name
                for alias in row.aliases:
                    table.names[alias] = name
            for packed in row.pointers:
                self._point(packed, name)

    def _point(self, packed: bytes, name: Name) -> None:
        self._table.addresses.setdefault(packed, name)
        digits = packed.hex()
        if not digits.startswith(self._pools):
            return
        prefixes = self._table._prefixes  # noqa: SLF001 - one class in two steps
        step = 2 if len(packed) == _IPV4_BYTES else 1
        for end in range(len(digits) - step, 0, -step):
            if digits[:end] in prefixes:
                break
            prefixes.add(digits[:end])

    def finish(self) -> Table:
        """Return the table."""
        table = self._table
        table._wildcard_depths = _depths(table.wildcards)  # noqa: SLF001 - as above
        return table
