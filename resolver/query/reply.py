"""An upstream's reply, read: what it says, how long it holds, and where its times to live stand.

The bytes come from a stranger. A reply that is not well-formed as far as we look is None, never an exception; how far
we look is bounded by the message. What is done with a reply is decided in `exchange` and `cache`, what a client is sent
in `finish`. RFC 1035 section 4, RFC 2308 (negative answers), RFC 6891 (OPT).
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError  # noqa: N812 - the library's name says nothing here
from typing import Final, NamedTuple

from meshdns.resolver.query.wire import skip_name

HEADER_BYTES: Final = 12

NEGATIVE_TTL_MAX_S: Final = 300
"""A name that appears later is not denied for longer than this, whatever its SOA says (RFC 2308 allows hours)."""

TTL_MAX_S: Final = 86_400
"""A longer time to live is taken as this (RFC 8767, section 4: a cap of days protects from absurd values)."""

CHAIN_MAX: Final = 16
"""CNAMEs that are followed; what BIND and Unbound allow lies between 11 and 17."""

OPTIONS_BYTES_MAX: Final = 512
"""Options of a reply that are passed on; more would push records out of a datagram."""

NOERROR: Final = 0
FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5

CNAME: Final = 5
SOA: Final = 6
OPT: Final = 41
ANY: Final = 255

COOKIE: Final = 10
KEEPALIVE: Final = 11
PADDING: Final = 12
HOP_BY_HOP: Final = frozenset({COOKIE, KEEPALIVE, PADDING})
"""Options between two neighbours, which are never passed on (RFC 7873, 7828, 7830)."""

QR: Final = 0x8000
OPCODE: Final = 0x7800
POINTER: Final = 0xC0
TC: Final = 0x0200
AD: Final = 0x0020

_HEADER: Final = Struct("!HHHHHH")
_RECORD: Final = Struct("!HHIH")
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
        return self.rcode in {NOERROR, NXDOMAIN}


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
    if questions == 0 and flags & 15 not in {NOERROR, NXDOMAIN}:
        return Reply(flags & 15, flags, (0, 0, 0), b"", 0, 0, (), 0)
    end = HEADER_BYTES + len(key)
    start = end + len(kind)
    if questions != 1 or message[HEADER_BYTES:end].lower() != key or message[end:start] != kind:
        return None
    walk = _Walk(message, start, _SHORT.unpack(kind[:2])[0], key)
    if not walk.records(answers, authorities, additionals):
        return None
    chain = walk.chain() if walk.aliases else ()
    if chain is None:
        return None
    body = message[start : walk.end]
    return Reply(
        rcode=flags & 15 | walk.extended_rcode,
        flags=flags,
        counts=(answers, authorities, walk.additionals),
        body=body,
        answer_end=walk.answer_end - start,
        authority_end=walk.authority_end - start,
        ttls=tuple(walk.ttls),
        lifetime_s=0 if flags & TC else walk.lifetime_s(flags & 15),
        chain=chain,
        options=walk.options,
        edns=walk.edns,
    )


class _Walk:
    """One pass over the records of a message."""

    def __init__(self, message: bytes, start: int, qtype: int, key: bytes) -> None:
        self.message = message
        self.start = start
        self.qtype = qtype
        self.key = key
        self.end = start
        self.answer_end = start
        self.authority_end = start
        self.ttls: list[int] = []
        self.aliases: list[tuple[int, int, int]] = []
        self.lowest_ttl_s = TTL_MAX_S
        self.negative_ttl_s: int | None = None
        self.answered = False
        self.additionals = 0
        self.extended_rcode = 0
        self.options = b""
        self.edns = False

    def records(self, answers: int, authorities: int, additionals: int) -> bool:
        """Walk the three sections; False when a record is where none may be."""
        for _ in range(answers):
            owner = self.end
            rtype, rdata = self.record()
            if rtype == OPT:
                return False
            if self.qtype in {rtype, ANY}:
                self.answered = True
            elif rtype == CNAME:
                self.aliases.append((owner, rdata, self.start + self.ttls[-1]))
        self.answer_end = self.end
        for _ in range(authorities):
            rtype, _ = self.record()
            if rtype == OPT:
                return False
            if rtype == SOA:
                minimum_s = _LONG.unpack_from(self.message, self.end - 4)[0]
                self.negative_ttl_s = min(minimum_s, NEGATIVE_TTL_MAX_S)
        self.authority_end = self.end
        for _ in range(additionals):
            owner = self.end
            rtype, rdata = self.record()
            if rtype == OPT:
                self.opt(owner, rdata)
                break
            self.additionals += 1
        return True

    def record(self) -> tuple[int, int]:
        """Walk over one record; return its type and where its rdata starts."""
        message = self.message
        at = self.end
        if message[at] >= POINTER:
            if (message[at] & 0x3F) << 8 | message[at + 1] >= at:
                raise IndexError
            at += 2
        else:
            at = skip_name(message, at)
            if at < 0:
                raise IndexError
        rtype, _, ttl_s, length = _RECORD.unpack_from(message, at)
        rdata = at + _RECORD.size
        self.end = rdata + length
        if self.end > len(message):
            raise IndexError
        if rtype != OPT:
            self.ttls.append(at + 4 - self.start)
            self.lowest_ttl_s = min(self.lowest_ttl_s, ttl_s if ttl_s < 1 << 31 else 0)
        return rtype, rdata

    def opt(self, owner: int, rdata: int) -> None:
        """Read the OPT record. What stands behind it is left out: additional records are a courtesy."""
        self.edns = True
        self.extended_rcode = self.message[rdata - 6] << 4
        self.options = passed_on(self.message[rdata : self.end])
        self.end = owner

    def lifetime_s(self, rcode: int) -> int:
        """How long the message may be kept (RFC 2308: a denial without an SOA not at all)."""
        if self.extended_rcode or rcode not in {NOERROR, NXDOMAIN}:
            return 0
        if rcode == NOERROR and self.answered:
            return self.lowest_ttl_s
        return 0 if self.negative_ttl_s is None else min(self.negative_ttl_s, self.lowest_ttl_s)

    def chain(self) -> tuple[Alias, ...] | None:
        """Return the CNAMEs from the question's name on, in order; None for a loop or a name that cannot be read."""
        steps: dict[bytes, Alias] = {}
        for owner, rdata, ttl in self.aliases[:CHAIN_MAX]:
            name, target = read_name(self.message, owner), read_name(self.message, rdata)
            if name is None or target is None:
                return None
            steps.setdefault(name.lower(), Alias(target, _LONG.unpack_from(self.message, ttl)[0]))
        found: list[Alias] = []
        name = self.key
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
        rtype, _, _, length = _RECORD.unpack_from(reply.body, at)
        at += _RECORD.size + length
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
