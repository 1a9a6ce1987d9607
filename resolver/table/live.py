"""The table that queries are answered from: ready bytes, and the ways a name is found among them.

It is replaced whole, so that nobody sees half of one; only `Table.answer_leases` changes it. What a name answers was
decided in `build`; what a question type gets is decided in `query.answer`. Nothing here may import a library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, overload

from meshdns.resolver.table import packed
from meshdns.resolver.table.names import label_starts
from meshdns.resolver.table.ready import A_BYTES, A_KIND, AAAA_BYTES, AAAA_KIND, Answer, answer_of, section_counts
from meshdns.resolver.table.records import OWNER
from meshdns.resolver.table.reverse import Reverse
from meshdns.resolver.table.row import Common, Row

_UNDERSCORE: Final = 0x5F

PREPARED_PER_TURN: Final = 200
"""Names whose answers are made in one turn of the loop, in a third of a millisecond."""


class Name:
    """One host in the live table, as bytes of which what is asked for is made when it is first asked for.

    `a` and `aaaa` are its answers, None where a CNAME stands instead; `row` is everything but its account.
    """

    __slots__ = ("_nodata", "a", "aaaa", "packed", "row")
    a: Answer | None
    aaaa: Answer | None
    row: Row

    def __init__(self, data: bytes, nodata: Answer) -> None:
        self.packed = data
        self._nodata = nodata

    def __getattr__(self, what: str) -> Any:  # noqa: ANN401 - one of the slots that are not filled yet
        if what == "row":
            self.row = packed.unpacked(self.packed)
        elif what in {"a", "aaaa"}:
            self.prepare()
        return object.__getattribute__(self, what)

    def prepare(self) -> None:
        """Make the answers."""
        found = packed.addresses(self.packed)
        if found is None:
            self.a = self.aaaa = None
        else:
            a, aaaa, lease_a, lease_aaaa = found
            self.a = _answer(a, lease_a, A_BYTES, self._nodata)
            self.aaaa = _answer(aaaa, lease_aaaa, AAAA_BYTES, self._nodata)


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


class Rows(Sequence[Row]):
    """Rows that are taken out of their bytes as they are looked at."""

    __slots__ = ("_hosts",)

    def __init__(self, hosts: list[Name]) -> None:
        self._hosts = hosts

    def __len__(self) -> int:
        return len(self._hosts)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            return [packed.unpacked(name.packed) for name in self._hosts[at]]
        return packed.unpacked(self._hosts[at].packed)

    def __iter__(self) -> Iterator[Row]:
        return (packed.unpacked(name.packed) for name in self._hosts)


class Table:
    """Every name of ours.

    `search`: the search suffixes, longest first, with their numbers of labels. `names` by key (aliases too),
    `wildcards` by their parent's key, `rows`: all rows in order, those of forwarded hosts included. `forwarded` are
    these alone, by key. `nodata` is the answer of an existing name without such records. `leased`: there is a lease
    among the rows. `closed`: the types whose leases are not answered. `servfail`: nothing is loaded yet and the
    operator wants no forwarding before that.
    """

    __slots__ = (
        "_guarded",
        "_reverse",
        "_wildcard_depths",
        "_zone_depths",
        "_zones",
        "closed",
        "common",
        "forwarded",
        "leased",
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
        self.forwarded: dict[bytes, Name] = {}
        self.rows: Sequence[Row] = ()
        self.leased = False
        self._reverse = Reverse(())
        self.search = tuple([(suffix, len(label_starts(suffix))) for suffix in common.search])
        self._guarded = frozenset(common.guarded)
        self._zones = frozenset(common.zones)
        self._zone_depths = _depths(common.zones)
        self._wildcard_depths: tuple[int, ...] = ()

    def answer_leases(self, *, ipv4: bool, ipv6: bool) -> None:
        """From now on answer leased addresses of these families; entries with an annotation of their own stay."""
        families = ((A_KIND, ipv4), (AAAA_KIND, ipv6))
        self.closed = frozenset([kind for kind, answered in families if not answered])

    def prepare(self) -> Iterator[None]:
        """Make the answers of all names and find all addresses, so that nobody waits for his; some in each step."""
        for number, name in enumerate(self.names.values()):
            name.prepare()
            if number % PREPARED_PER_TURN == 0:
                yield
        yield from self._reverse.prepare()

    @property
    def addresses(self) -> Mapping[bytes, Name]:
        """Packed addresses to the name that PTR and `explain` give."""
        return self._reverse.names

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
        """Tell whether an address in use starts with these digits: then its reverse name exists (RFC 8020)."""
        return self._reverse.has_below(digits)


def _depths(keys: Iterable[bytes]) -> tuple[int, ...]:
    """Return the numbers of labels that occur among the keys, largest first: only these are worth a look-up."""
    return tuple(sorted({len(label_starts(key)) for key in keys} - {0}, reverse=True))


class Assembler:
    """Builds a table step by step, so that the loop may turn in between.

    What a table `before` it has in the same bytes they share, for both are there until the new one is complete.
    """

    def __init__(self, common: Common, before: Table | None = None) -> None:
        self._table = Table(common)
        self._known = before.names if before else {}
        self._hosts: list[Name] = []

    def add(self, rows: Iterable[bytes]) -> None:
        """Take these packed rows over, each once and in order."""
        table = self._table
        names, nodata, before = table.names, table.nodata, self._known.get
        for data in rows:
            flags, key = packed.heading(data)
            known = before(key)
            name = Name(known.packed if known and known.packed == data else data, nodata)
            self._hosts.append(name)
            if flags & packed.UNANSWERED:
                table.forwarded.setdefault(key, name)
                continue
            if flags & packed.LEASED:
                table.leased = True
            if flags & packed.WILDCARD:
                table.wildcards[key] = name
                continue
            names[key] = name
            if flags & packed.ALIASED:
                names.update(dict.fromkeys(name.row.aliases, name))

    def finish(self) -> Table:
        """Return the table."""
        table = self._table
        table.rows = Rows(self._hosts)
        table._reverse = Reverse(self._hosts)  # noqa: SLF001 - one class in two steps
        table._wildcard_depths = _depths(table.wildcards)  # noqa: SLF001 - as above
        return table
