"""A row as one bytes object: how it crosses to the serving process, lies on the shelf, and rests in the live table.

A fixed head (flags, time to live, the length of each section), then the sections in the order of `_HEAD`, then the
account. Ten thousand rows are ten thousand objects instead of half a million, and only what is asked for is taken out.
Reading never raises for bytes as long as a head: what no build made gives a row that means nothing, and `check` tells.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Final

from meshdns.resolver.table.ready import A_BYTES, AAAA_BYTES
from meshdns.resolver.table.row import Row

WILDCARD, DIRECT, FORWARD_OTHER_TYPES, UNANSWERED, LEASED, ALIASED = 1, 2, 4, 8, 16, 32

_HEAD: Final = struct.Struct("!B13II")
"""Flags; lengths: key, pointers, a, aaaa, lease_a, lease_aaaa, cname, lease, aliases, srv, unanswered, host, namespace;
TTL."""
_HEAD_BYTES: Final = _HEAD.size
_PLACE: Final = struct.Struct("!B2I")
_RECORDS: Final = struct.Struct("!B7I")
"""The head's beginning, up to where its reader needs it: ten thousand of them are read at once, and most are alike."""

_RECORDS_MOST_BYTES: Final = 0xFFFF
"""Of one section: what a message of 65,535 bytes can hold at most."""


def packed(row: Row) -> bytes:
    """Return the row as bytes."""
    flags = (
        WILDCARD * row.wildcard
        | DIRECT * row.direct
        | FORWARD_OTHER_TYPES * row.forward_other_types
        | UNANSWERED * bool(row.unanswered)
        | LEASED * (row.lease is not None)
        | ALIASED * bool(row.aliases)
    )
    sections = (
        *(row.key, _joined(row.pointers), row.a, row.aaaa, row.lease_a, row.lease_aaaa),
        *(row.cname, _joined(row.lease or ()), _joined(row.aliases), _joined_services(row.srv)),
        *[text.encode(errors="replace") for text in (row.unanswered, row.host, row.namespace)],
    )
    return b"".join((_HEAD.pack(flags, *map(len, sections), row.ttl_s), *sections, row.told))


def unpacked(data: bytes) -> Row:
    """Return the row that was packed."""
    flags, *lengths, ttl_s = _HEAD.unpack_from(data)
    cuts = [*accumulate(lengths, initial=_HEAD_BYTES), len(data)]
    (
        *(key, pointers, a, aaaa, lease_a, lease_aaaa, cname, lease, aliases, srv, unanswered, host, namespace),
        told,
    ) = [data[start:end] for start, end in pairwise(cuts)]
    return Row(
        key,
        host.decode(errors="replace"),
        bool(flags & WILDCARD),
        bool(flags & DIRECT),
        namespace.decode(errors="replace"),
        items(aliases),
        ttl_s,
        bool(flags & FORWARD_OTHER_TYPES),
        a,
        aaaa,
        items(lease) if flags & LEASED else None,
        lease_a,
        lease_aaaa,
        cname,
        _services(srv),
        items(pointers),
        unanswered.decode(errors="replace"),
        told,
    )


def heading(data: bytes) -> tuple[int, bytes]:
    """Return what puts a row in its place: its flags and its key."""
    flags, key_end, _ = _place(data[: _PLACE.size])
    return flags, data[_HEAD_BYTES:key_end]


def pointers(data: bytes) -> tuple[bytes, ...]:
    """Return the addresses whose PTR names the host; a forwarded one has none."""
    flags, key_end, end = _place(data[: _PLACE.size])
    return () if flags & UNANSWERED else items(data[key_end:end])


@lru_cache(maxsize=1024)
def _place(head: bytes) -> tuple[int, int, int]:
    flags, key, pointers = _PLACE.unpack(head)
    key_end = _HEAD_BYTES + key
    return flags, key_end, key_end + pointers


def addresses(data: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Return the records of the row: a, aaaa, lease_a, lease_aaaa; None where a CNAME stands instead."""
    _, key, pointers, a, aaaa, lease_a, lease_aaaa, cname = _RECORDS.unpack_from(data)
    if cname:
        return None
    start = _HEAD_BYTES + key + pointers
    aaaa_at = start + a
    lease_at = aaaa_at + aaaa
    middle = lease_at + lease_a
    return data[start:aaaa_at], data[aaaa_at:lease_at], data[lease_at:middle], data[middle : middle + lease_aaaa]


def answered_part(data: bytes) -> memoryview:
    """Return the bytes that change when what the host answers does: all but the account."""
    return memoryview(data)[: _HEAD_BYTES + sum(_HEAD.unpack_from(data)[1:-1])]


def check(rows: Collection[bytes]) -> None:
    """Raise ValueError if there is a row that no build makes: answering takes its bytes as they are."""
    if min(map(len, rows), default=_HEAD_BYTES) < _HEAD_BYTES:
        raise ValueError("a row that is none")
    heads = {data[: _RECORDS.size] for data in rows}
    named = {head for head in heads if _has_names(head)}
    for data in rows if named else ():
        if data[: _RECORDS.size] in named:
            row = unpacked(data)
            for key in (row.key, row.cname or b"\0", *row.aliases):
                _check_key(key)


def _has_names(head: bytes) -> bool:
    """Return whether answering reads names in the rows of this head; ValueError where their records are none."""
    flags, _, _, a, aaaa, lease_a, lease_aaaa, cname = _RECORDS.unpack(head)
    too_many = (a | aaaa | lease_a | lease_aaaa) > _RECORDS_MOST_BYTES
    if too_many or (a | lease_a) % A_BYTES or aaaa % AAAA_BYTES or lease_aaaa % AAAA_BYTES:
        raise ValueError("records that are none")
    return bool(cname or flags & (WILDCARD | ALIASED))


def _check_key(key: bytes) -> None:
    at = 0
    while key[at : at + 1] not in {b"\0", b""}:
        at += key[at] + 1
    if at != len(key) - 1:
        raise ValueError("a name that is none")


def _joined(found: Iterable[bytes]) -> bytes:
    """Put names or addresses one after another, each behind its length."""
    return b"".join([bytes((len(item),)) + item for item in found])


def items(section: bytes) -> tuple[bytes, ...]:
    """Take apart what stands one after another in a section of names or addresses."""
    found = []
    at = 0
    while at < len(section):
        end = at + 1 + section[at]
        found.append(section[at + 1 : end])
        at = end
    return tuple(found)


@lru_cache(maxsize=1024)
def _joined_services(srv: tuple[tuple[bytes, tuple[bytes, ...]], ...]) -> bytes:
    return _joined([part for labels, heads in srv for head in heads for part in (labels, head)])


@lru_cache(maxsize=1024)
def _services(section: bytes) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    """Take services apart: the same object for the same ports, which thousands of rows share."""
    services: dict[bytes, tuple[bytes, ...]] = {}
    flat = items(section)
    for labels, head in zip(flat[::2], flat[1::2], strict=False):
        services[labels] = (*services.get(labels, ()), head)
    return tuple(services.items())
