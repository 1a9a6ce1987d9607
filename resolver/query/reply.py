"""An upstream's reply, read: what it says, how long it holds, and where its times to live stand.

The bytes come from a stranger. A reply that is not well-formed as far as we look is None, never an exception; how far
we look is bounded by the message. What is done with a reply is decided in `exchange` and `cache`, what a client is sent
in `finish`. RFC 1035 section 4, RFC 2308 (negative answers), RFC 6891 (OPT).
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 - the library's name says nothing here
from typing import Final, NamedTuple

from meshdns.resolver.query.wire import (
    HEADER_BYTES,
    NOERROR,
    NXDOMAIN,
    OPT,
    POINTER,
    RECORD,
    skip_name,
)

NEGATIVE_TTL_MAX_S: Final = 300
"""A name that appears later is not denied for longer than this, whatever its SOA says (RFC 2308 allows hours)."""

TTL_MAX_S: Final = 86_400
"""A longer time to live is taken as this (RFC 8767, section 4: a cap of days protects from absurd values)."""

CHAIN_MAX: Final = 16
"""CNAMEs that are followed; what BIND and Unbound allow lies between 11 and 17."""

OPTIONS_BYTES_MAX: Final = 512
"""Options of a reply that are passed on; more would push records out of a datagram."""

GOOD: Final = frozenset({NOERROR, NXDOMAIN})
"""What the name has, or that there is no such name; every other RCODE says something about the server."""

CNAME: Final = 5
SOA: Final = 6
ANY: Final = 255

COOKIE: Final = 10
KEEPALIVE: Final = 11
PADDING: Final = 12
HOP_BY_HOP: Final = frozenset({COOKIE, KEEPALIVE, PADDING})
"""Options between two neighbours, which are never passed on (RFC 7873, 7828, 7830)."""

QR: Final = 0x8000
OPCODE: Final = 0x7800
TC: Final = 0x0200
AD: Final = 0x0020

_HEADER: Final = Struct("!HHHHHH")
_RECORD_BYTES: Final = RECORD.size
_TTL_SIGN: Final = 1 << 31  # from here on a time to live is taken as 0 (RFC 2181, section 8)
_OPTION: Final = Struct("!HH")
_SHORT: Final = Struct("!H")
_LONG: Final = Struct("!I")


class Alias(NamedTuple):
    """One step of a CNAME chain: where it leads (wire form, as spelt) and for how long."""

    target: bytes
    ttl_s: int


class Reply(NamedTuple):
    """What an upstream said to a question.

    `body` is the message behind the question, up to its OPT record: offsets in it that compression uses stay valid as
    long as a question of the same length stands in front. `answer_end` and `authority_end` are offsets in `body`, as
    are `ttls`, the places of the times to live. `lifetime_s` is how long it may be kept, 0 for not at all. `options`
    are those of the OPT record without the hop-by-hop ones; `edns` says whether there was an OPT record.
    """

    rcode: int
    flags: int
    counts: tuple[int, int, int]
    body: bytes
    answer_end: int
    authority_end: int
    ttls: tuple[int, ...]
    lifetime_s: int
    chain: tuple[Alias, ...] = ()
    options: bytes = b""
    edns: bool = False

    @property
    def truncated(self) -> bool:
        """The upstream had more to say than fits a datagram."""
        return bool(self.flags & TC)

    @property
    def good(self) -> bool:
        """It says what the name has, or that there is no such name."""
        return self.rcode in GOOD


def read(message: bytes, key: bytes, kind: bytes) -> Reply | None:
    """Read the reply to the question `key` (lower-case wire form) and `kind` (its type and class, 4 bytes), or None."""
    try:
        return _read(message, key, kind)
    except (IndexError, StructError):
        return None


def _read(message: bytes, key: bytes, kind: bytes) -> Reply | None:
    _, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(message)
    if not flags & QR or flags & OPCODE:
        return None
    if questions == 0 and flags & 15 not in GOOD:
        return Reply(flags & 15, flags, (0, 0, 0), b"", 0, 0, (), 0)
    end = HEADER_BYTES + len(key)
    start = end + len(kind)
    if questions != 1 or message[HEADER_BYTES:end].lower() != key or message[end:start] != kind:
        return None
    records, opt = _walk(message, start, answers + authorities + additionals)
    if len(records) < answers + authorities:
        return None
    qtype = _SHORT.unpack(kind[:2])[0]
    chain = _chain(message, records[:answers], key) if answers and qtype != CNAME else ()
    if chain is None:
        return None
    rcode, options = flags & 15, b""
    if opt is not None:
        _, _, _, data, end = opt
        rcode |= message[data - 6] << 4
        options = passed_on(message[data:end]) if data != end else b""
    body_end = records[-1][_END] if records else start
    answer_end = records[answers - 1][_END] if answers else start
    authority_end = records[answers + authorities - 1][_END] if authorities else answer_end
    return Reply(
        rcode,
        flags,
        (answers, authorities, len(records) - answers - authorities),
        message[start:body_end],
        answer_end - start,
        authority_end - start,
        tuple([data - 6 - start for _, _, _, data, _ in records]),
        0 if flags & TC or rcode not in GOOD else _lifetime_s(message, records, (answers, authorities), rcode, qtype),
        chain,
        options,
        opt is not None,
    )


_Record = tuple[int, int, int, int, int]
"""Type, time to live, and where owner, data and end stand. Made for every record of every reply: no named tuple."""

_RTYPE, _TTL_S, _END = 0, 1, 4


def _walk(message: bytes, at: int, count: int) -> tuple[list[_Record], _Record | None]:
    """Return so many records from `at` on, and the OPT record, whose followers are left out: they are a courtesy."""
    records: list[_Record] = []
    size = len(message)
    for _ in range(count):
        owner = at
        if message[at] >= POINTER:
            if (message[at] & 0x3F) << 8 | message[at + 1] >= at:
                raise IndexError
            at += 2
        else:
            at = skip_name(message, at)
            if at < 0:
                raise IndexError
        rtype, _, ttl_s, length = RECORD.unpack_from(message, at)
        data = at + _RECORD_BYTES
        at = data + length
        if at > size:
            raise IndexError
        if rtype == OPT:
            return records, (rtype, ttl_s, owner, data, at)
        records.append((rtype, ttl_s if ttl_s < _TTL_SIGN else 0, owner, data, at))
    return records, None


def _lifetime_s(message: bytes, records: list[_Record], counts: tuple[int, int], rcode: int, qtype: int) -> int:
    """Return how long a good message may be kept (RFC 2308: a denial without an SOA not at all)."""
    if not records:
        return 0
    answers, authorities = counts
    lowest_s = min([record[_TTL_S] for record in records])
    if rcode == NOERROR and answers:
        for rtype, *_ in records[:answers]:
            if rtype == qtype or qtype == ANY:  # noqa: PLR1714 - a set would be made anew each time
                return min(lowest_s, TTL_MAX_S)
    for rtype, _, _, _, end in records[answers : answers + authorities]:
        if rtype == SOA:
            minimum_s: int = _LONG.unpack_from(message, end - 4)[0]
            return min(minimum_s, NEGATIVE_TTL_MAX_S, lowest_s)
    return 0


def _chain(message: bytes, answer: list[_Record], key: bytes) -> tuple[Alias, ...] | None:
    """Return the CNAMEs from the question's name on, in order; None for a loop or a name that cannot be read."""
    aliases = [record for record in answer if record[_RTYPE] == CNAME]
    if not aliases:
        return ()
    steps: dict[bytes, Alias] = {}
    for _, ttl_s, owner_at, target_at, _ in aliases[:CHAIN_MAX]:
        owner, target = read_name(message, owner_at), read_name(message, target_at)
        if owner is None or target is None:
            return None
        steps.setdefault(owner.lower(), Alias(target, ttl_s))
    found: list[Alias] = []
    name = key
    while name in steps:
        step = steps[name]
        found.append(step)
        if len(found) > len(steps):
            return None
        name = step.target.lower()
    return tuple(found)


def addresses(reply: Reply, qtype: int) -> list[bytes]:
    """Return the rdata of every answer record of this type."""
    found = []
    at = 0
    for _ in range(reply.counts[0]):
        at = skip_name(reply.body, at)
        rtype, _, _, length = RECORD.unpack_from(reply.body, at)
        at += RECORD.size + length
        if rtype == qtype:
            found.append(reply.body[at - length : at])
    return found


def read_name(message: bytes, at: int) -> bytes | None:
    """Return the name at `at` in wire form without compression, as spelt; None for a loop or more than 255 bytes."""
    labels: list[bytes] = []
    size, lowest = 1, at
    while (length := message[at]) != 0:
        if length >= POINTER:
            at = (length & 0x3F) << 8 | message[at + 1]
            if at >= lowest:
                return None
            lowest = at
            continue
        size += length + 1
        if length > 63 or size > 255:  # noqa: PLR2004 - the longest label and the longest name, RFC 1035
            return None
        label = message[at : at + length + 1]
        if len(label) != length + 1:
            return None
        labels.append(label)
        at += length + 1
    return b"".join(labels) + b"\0"


def passed_on(options: bytes) -> bytes:
    """Return the EDNS options (rdata of an OPT record) without those between neighbours; all go if one is malformed."""
    kept: list[bytes] = []
    at = 0
    while at < len(options):
        if at + _OPTION.size > len(options):
            return b""
        code, length = _OPTION.unpack_from(options, at)
        end = at + _OPTION.size + length
        if end > len(options):
            return b""
        if code not in HOP_BY_HOP:
            kept.append(options[at:end])
        at = end
    passed = b"".join(kept)
    return passed if len(passed) <= OPTIONS_BYTES_MAX else b""
