"""DNS messages as bytes: a query is parsed, a reply is put together, an error is said, a message is cut short.

Only the shape of messages is known here (RFC 1035, 6891), never what a name means. No dnslib: a packet from a stranger
could cost it seconds. Every loop is bounded by a constant, for the cost of the worst packet is part of the contract.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

HEADER_BYTES: Final = 12
QUESTION_TAIL_BYTES: Final = 4  # type and class
UDP_PLAIN_BYTES: Final = 512  # RFC 1035, section 4.2.1: what a client without EDNS takes
UDP_MOST_BYTES: Final = 4096  # the most a client gets over UDP, whatever its OPT says
STREAM_MOST_BYTES: Final = 65535  # RFC 1035, section 4.2.2: two bytes of length
OUR_EDNS_BYTES: Final = 1232  # DNS flag day 2020: fits every path in one piece
ADDITIONAL_MOST: Final = 16  # records behind a question; real clients send an OPT, and TSIG or SIG(0)

IN: Final = 1
OPT: Final = 41

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

_NAME_BYTES: Final = 255
_LABEL_MOST: Final = 63
_PADDING: Final = b"\xff" * (_LABEL_MOST + 1)
POINTER: Final = 0xC0  # RFC 1035, section 4.1.4
_SEARCHED_RECORDS: Final = 16
_SEARCHED_BYTES: Final = 256  # of a malformed message, before its OPT is given up

_HEADER: Final = struct.Struct("!HHHHHH")
RECORD: Final = struct.Struct("!HHIH")  # type, class, time to live, length: what follows a record's owner
_QUESTION: Final = struct.Struct("!HH")


class Edns(NamedTuple):
    """The OPT record of a query. `start` and `end` are its offsets in the packet; `options` its data."""

    size: int
    version: int
    dnssec_ok: bool
    options: bytes
    start: int
    end: int


@dataclass(slots=True)
class Query:
    """A query as it was asked. Not frozen, which would double what it costs: one is made for every packet forwarded.

    `name` is the question's name in wire form as the client spelt it, `key` the same in lower case, `end` the offset
    just past the question, `labels` the offsets of the labels within `name`. Of an opcode other than QUERY only the
    header is read: empty names, type and class 0.
    """

    id: int
    flags: int
    name: bytes
    key: bytes
    qtype: int
    qclass: int
    edns: Edns | None
    end: int
    labels: tuple[int, ...] = ()


class Malformed(NamedTuple):
    """A query that cannot be read; `edns` if its OPT could be."""

    edns: Edns | None


def udp_limit(edns: Edns | None) -> int:
    """Return how many bytes a UDP client takes."""
    return UDP_PLAIN_BYTES if edns is None else min(max(edns.size, UDP_PLAIN_BYTES), UDP_MOST_BYTES)


def parse(packet: bytes) -> Query | Malformed:
    """Read a query of opcode QUERY; the packet has at least a header. What follows the message is ignored."""
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(packet)
    if questions != 1 or answers or authorities or additional > ADDITIONAL_MOST:
        return Malformed(_search_edns(packet))
    labels = labels_of(packet)
    if labels is None:
        return Malformed(_search_edns(packet))
    past_name = HEADER_BYTES + labels.pop() + 1
    end = past_name + QUESTION_TAIL_BYTES
    if end > len(packet):
        return Malformed(None)
    edns = None
    at = end
    for _ in range(additional):
        found, at = _record(packet, at)
        if at < 0 or (found is not None and edns is not None):
            return Malformed(edns)
        edns = found or edns
    name = packet[HEADER_BYTES:past_name]
    qtype, qclass = _QUESTION.unpack_from(packet, past_name)
    return Query(ident, flags, name, name.lower(), qtype, qclass, edns, end, tuple(labels))


def labels_of(packet: bytes) -> list[int] | None:
    """Return where the labels of the question's name start in it, the root's last; None when it is malformed.

    What is behind the name's last possible byte reads as a label that is too long, which ends every walk.
    """
    name = packet[HEADER_BYTES : HEADER_BYTES + _NAME_BYTES] + _PADDING
    starts = []
    at = 0
    while length := name[at]:
        if length > _LABEL_MOST:
            return None
        starts.append(at)
        at += length + 1
    starts.append(at)
    return starts


def _record(packet: bytes, at: int) -> tuple[Edns | None, int]:
    """Read a record behind the question: its OPT, if it is one, and the offset past it, or -1 when it is malformed."""
    start = at
    at = skip_name(packet, at)
    if at < 0 or at + RECORD.size > len(packet):
        return None, -1
    rtype, size, ttl, length = RECORD.unpack_from(packet, at)
    at += RECORD.size
    end = at + length
    if end > len(packet):
        return None, -1
    if rtype != OPT:
        return None, end
    if packet[start]:
        return None, -1
    return Edns(size, ttl >> 16 & 0xFF, bool(ttl & 0x8000), packet[at:end], start, end), end


def skip_name(message: bytes, at: int) -> int:
    """Return the offset past the name at `at`, which may end in a pointer; -1 when it is cut or malformed."""
    most = min(len(message), at + _NAME_BYTES)
    while at < most:
        length = message[at]
        if not length:
            return at + 1
        if length > _LABEL_MOST:
            return at + 2 if length >= POINTER and at + 2 <= len(message) else -1
        at += length + 1
    return -1


def _search_edns(packet: bytes) -> Edns | None:
    """Find the OPT of a message whose counts or question are wrong, as far as that costs little."""
    _, _, questions, *records = _HEADER.unpack_from(packet)
    at = HEADER_BYTES
    for index in range(min(questions + sum(records), _SEARCHED_RECORDS)):
        if index < questions:
            past = skip_name(packet, at)
            past = past + QUESTION_TAIL_BYTES if past > 0 else past
        else:
            found, past = _record(packet, at)
            if found is not None:
                return found
        if not 0 < past <= _SEARCHED_BYTES:
            return None
        at = past
    return None


class Sections(NamedTuple):
    """What a reply says after its question: record counts, and the records of answer and authority, of additional."""

    answers: int
    authorities: int
    additional: int
    records: bytes
    extra: bytes = b""


NOTHING: Final = Sections(0, 0, 0, b"")


def reply(packet: bytes, query: Query, rcode: int, sections: Sections, limit: int) -> bytes:
    """Put an authoritative reply together; over the limit first the additional records go, then all, with TC."""
    answers, authorities, additional, records, extra = sections
    question = packet[HEADER_BYTES : query.end]
    opt = b"" if query.edns is None else opt_record(rcode, dnssec_ok=query.edns.dnssec_ok)
    size = HEADER_BYTES + len(question) + len(records) + len(opt)
    flags = _flags(query.flags, rcode) | 0x0400
    if size > limit:
        return _HEADER.pack(query.id, flags | 0x0200, 1, 0, 0, bool(opt)) + question + opt
    if size + len(extra) > limit:
        additional, extra = 0, b""
    header = _HEADER.pack(query.id, flags, 1, answers, authorities, additional + bool(opt))
    return b"".join((header, question, records, extra, opt))


def error(packet: bytes, rcode: int, edns: Edns | None, end: int = HEADER_BYTES) -> bytes:
    """Return an error of ours: the header, the question if `end` is past it, and an OPT if the client sent one."""
    ident, flags = _QUESTION.unpack_from(packet)
    opt = b"" if edns is None else opt_record(rcode, dnssec_ok=edns.dnssec_ok)
    header = _HEADER.pack(ident, _flags(flags, rcode), end > HEADER_BYTES, 0, 0, bool(opt))
    return header + packet[HEADER_BYTES:end] + opt


def _flags(asked: int, rcode: int) -> int:
    """QR and RA set; opcode, RD and CD as asked; AA, TC, Z and AD clear."""
    return 0x8080 | asked & 0x7910 | rcode & 0xF


def opt_record(rcode: int, *, dnssec_ok: bool, options: bytes = b"") -> bytes:
    """Return our own OPT: our size, version 0, the upper bits of the RCODE, the client's DO (RFC 3225)."""
    ttl = rcode >> 4 << 24 | (0x8000 if dnssec_ok else 0)
    return b"\0" + RECORD.pack(OPT, OUR_EDNS_BYTES, ttl, len(options)) + options


def truncate(message: bytes, limit: int) -> bytes:
    """Return a well-formed message, or over the limit its header with TC, its question and its OPT."""
    if len(message) <= limit:
        return message
    ident, flags, questions, *counts = _HEADER.unpack_from(message)
    past_name = skip_name(message, HEADER_BYTES) if questions else -1
    end = HEADER_BYTES if past_name < 0 else past_name + QUESTION_TAIL_BYTES
    opt = b""
    at = end
    for _ in range(sum(counts)):
        found, past = _record(message, at)
        if past < 0:
            break
        if found is not None:
            opt = message[at:past]
        at = past
    header = _HEADER.pack(ident, flags | 0x0200, end > HEADER_BYTES, 0, 0, bool(opt))
    return header + message[HEADER_BYTES:end] + opt


# A query that differs from the common ones in nothing but its name needs no parsing: these tables know, by their bytes,
# the headers after the id and the OPT records that clients really send. What is not in them is parsed.

COMMON_HEADERS: Final[dict[bytes, tuple[bytes, bool]]] = {
    struct.pack("!HHHHH", asked, 1, 0, 0, additional): (
        struct.pack("!HH", _flags(asked, 0) | 0x0400, 1),
        bool(additional),
    )
    for asked in (rd | ad | cd for rd in (0, 0x100) for ad in (0, 0x20) for cd in (0, 0x10))
    for additional in (0, 1)
}
"""Header without the id -> the reply's flags and QDCOUNT, and whether an OPT follows."""

_COMMON_SIZES: Final = (512, 1024, 1200, 1220, 1232, 1280, 1400, 1410, 1432, 1452, 1472, 4000, 4096, 8192, 65494, 65535)

COMMON_OPTS: Final[dict[bytes, tuple[int, bytes]]] = {
    b"\0" + RECORD.pack(OPT, size, dnssec_ok, 0): (
        min(max(size, UDP_PLAIN_BYTES), UDP_MOST_BYTES),
        opt_record(NOERROR, dnssec_ok=bool(dnssec_ok)),
    )
    for size in _COMMON_SIZES
    for dnssec_ok in (0, 0x8000)
}
"""OPT record without options -> how many bytes the client takes, and our OPT."""

OPT_BYTES: Final = 11  # of an OPT record without options
DNSSEC_OK_AT: Final = 7  # where in it the byte stands whose top bit is DO

_OPT_START: Final = b"\0\0\x29"
_OUR_OPTS: Final = {False: opt_record(NOERROR, dnssec_ok=False), True: opt_record(NOERROR, dnssec_ok=True)}


def read_opt(packet: bytes, at: int) -> tuple[int, bytes] | None:
    """Return the same for an OPT of another size or with options (a cookie); None when it is not just that."""
    if packet[at : at + 3] != _OPT_START or len(packet) < at + OPT_BYTES or packet[at + 6]:
        return None
    if at + OPT_BYTES + (packet[at + 9] << 8 | packet[at + 10]) > len(packet):
        return None
    size = packet[at + 3] << 8 | packet[at + 4]
    return min(max(size, UDP_PLAIN_BYTES), UDP_MOST_BYTES), _OUR_OPTS[packet[at + DNSSEC_OK_AT] > 0x7F]  # noqa: PLR2004 - DO is the top bit
