"""An upstream's reply, read: what it says, how long it holds, and where its times to live stand.

The bytes come from a stranger. A reply that is not well-formed as far as we look is None, never an exception; how far
we look is bounded by the message. What is done with a reply is decided in `exchange` and `cache`, what a client is sent
in `finish`. RFC 1035 section 4, RFC 2308 (negative answers), RFC 6891 (OPT).
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
_TTL_BEFORE_DATA: Final = 6  # four bytes, and two of length; of an OPT the first is the upper part of the RCODE
_TTL_SIGN: Final = 1 << 31  # from here on a time to live is taken as 0 (RFC 2181, section 8)
_OPTION: Final = Struct("!HH")
_LONG: Final = Struct("!I")


class Alias(NamedTuple):
    """One step of a CNAME chain: where it leads (wire form, as spelt) and for how long."""

    target: bytes
    ttl_s: int


@dataclass(slots=True)
class Reply:
    """What an upstream said to a question; no place of it is changed (freezing it would double what it costs to make).

    `body` is the message behind the question, up to its OPT record: offsets in it that compression uses stay valid as
    long as a question of the same length stands in front. `answer_end` and `authority_end` are offsets in `body`, as
    are `ttls`, the places of the times to live. `lifetime_s` is how long it may be kept, 0 for not at all. `options`
    are those of the OPT record without the hop-by-hop ones; `edns` says whether there was an OPT record. `good`: it
    says what the name has, or that there is no such name. `truncated`: there was more to say than fits a datagram.
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
    good: bool = field(init=False)
    truncated: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look at RCODE and flags once, for all that ask."""
        self.good = self.rcode in GOOD
        self.truncated = self.flags & TC != 0


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
    records, ttls, lowest_s, opt = _walk(message, start, answers + authorities + additionals)
    others = len(records) - answers - authorities
    if others < 0:
        return None
    qtype = kind[0] << 8 | kind[1]
    chain = _chain(message, records[:answers], key) if qtype != CNAME else ()
    if chain is None:
        return None
    rcode, options = flags & 15, b""
    if opt is not None:
        _, _, _, data, end = opt
        rcode |= message[data - _TTL_BEFORE_DATA] << 4
        options = passed_on(message[data:end]) if data != end else b""
    answer_end = records[answers - 1][_END] - start if answers else 0
    authority_end = records[answers + authorities - 1][_END] - start if authorities else answer_end
    if flags & TC or rcode not in GOOD:
        lifetime_s = 0
    elif rcode == NOERROR and _answered(records[:answers], qtype):
        lifetime_s = lowest_s
    else:
        lifetime_s = min(_negative_ttl_s(message, records[answers : answers + authorities]), lowest_s)
    return Reply(
        rcode,
        flags,
        (answers, authorities, others),
        message[start : records[-1][_END]] if records else b"",
        answer_end,
        authority_end,
        tuple(ttls),
        lifetime_s,
        chain,
        options,
        opt is not None,
    )


_Record = tuple[int, int, int, int, int]
"""Type, time to live, and where owner, data and end stand. Made for every record of every reply: no named tuple."""

_RTYPE, _END = 0, 4


def _walk(message: bytes, at: int, count: int) -> tuple[list[_Record], list[int], int, _Record | None]:
    """Return so many records from `at` on, how far behind it their times to live stand, the lowest of these, the OPT.

    What follows the OPT record is left out: it is a courtesy.
    """
    records: list[_Record] = []
    ttls: list[int] = []
    lowest_s = TTL_MAX_S
    start, size = at, len(message)
    for _ in range(count):
        owner = at
        if message[at] >= POINTER:
            if not HEADER_BYTES <= (message[at] & 0x3F) << 8 | message[at + 1] < at:
                raise IndexError  # what stands in the header is no name, and is another one in our reply
            at += 2
        elif message[at] == 0:
            at += 1
        else:
            at = skip_name(message, at)
            if at < 0:
                raise IndexError
        rtype, _, ttl_s, length = RECORD.unpack_from(message, at)
        data = at + _RECORD_BYTES
        end = data + length
        if end > size:
            raise IndexError
        if rtype == OPT:
            return records, ttls, lowest_s, (rtype, ttl_s, owner, data, end)
        if ttl_s >= _TTL_SIGN:
            ttl_s = 0
        lowest_s = min(lowest_s, ttl_s)
        records.append((rtype, ttl_s, owner, data, end))
        ttls.append(data - _TTL_BEFORE_DATA - start)
        at = end
    return records, ttls, lowest_s, None


def _answered(answer: list[_Record], qtype: int) -> bool:
    """Whether there is a record of the type asked for."""
    for rtype, _, _, _, _ in answer:  # noqa: SIM110 - a generator costs more than what it does
        if rtype == qtype or qtype == ANY:  # noqa: PLR1714 - a set would be made anew each time
            return True
    return False


def _negative_ttl_s(message: bytes, authority: list[_Record]) -> int:
    """Return how long a denial may be kept: as its SOA says, and without one not at all (RFC 2308)."""
    for rtype, _, _, _, end in authority:
        if rtype == SOA:
            minimum_s: int = _LONG.unpack_from(message, end - 4)[0]
            return min(minimum_s, NEGATIVE_TTL_MAX_S)
    return 0


def _chain(message: bytes, answer: list[_Record], key: bytes) -> tuple[Alias, ...] | None:
    """Return the CNAMEs from the question's name on, in order; None for a loop or a name that cannot be read."""
    for record in answer:
        if record[_RTYPE] == CNAME:
            break
    else:
        return ()
    aliases = [record for record in answer if record[_RTYPE] == CNAME]
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
            if not HEADER_BYTES <= at < lowest:
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
