"""From what an upstream said, or from a reason why it said nothing, to the message that the client is sent.

The client's id, its own spelling of the name, RD and CD come back; RA is set, AA is not, AD only for a client that
understands it (RFC 6840, section 5.8). An OPT record goes to who sent one. What does not fit is left out whole: first
additional records, then authority, and only when the answer itself does not fit TC says so (RFC 2181, section 9).
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from meshdns.resolver.query.reply import AD, HEADER_BYTES, NXDOMAIN, SERVFAIL, TC, Reply
from meshdns.resolver.query.wire import Query, opt_record

RD_AND_CD: Final = 0x0110
QR_AND_RA: Final = 0x8080
EDE: Final = 15
"""EDNS option code of extended DNS errors (RFC 8914)."""

EDE_TEXT_BYTES_MAX: Final = 200
"""UTF-8 bytes of an extra text: a hint for people must not cost the answer its place in a datagram."""

RCODE_PLAIN_MAX: Final = 15
"""The largest RCODE that the header can hold (RFC 6891, section 6.1.3)."""

_HEADER: Final = Struct("!HHHHHH")
_EDE: Final = Struct("!HHH")
_LONG: Final = Struct("!I")


class Reason(NamedTuple):
    """An extended DNS error: INFO-CODE and text (RFC 8914)."""

    code: int
    text: str = ""


def option(reason: Reason) -> bytes:
    """Return the reason as an EDNS option."""
    text = reason.text.encode()[:EDE_TEXT_BYTES_MAX].decode(errors="ignore").encode()
    return _EDE.pack(EDE, 2 + len(text), reason.code) + text


def finish(reply: Reply, packet: bytes, query: Query, limit: int, options: bytes = b"") -> bytes:
    """Return the message for the client that asked `packet`, at most `limit` bytes; `options` go before the reply's."""
    edns = query.edns
    flags = QR_AND_RA | query.flags & RD_AND_CD | reply.flags & TC
    if reply.flags & AD and (query.flags & AD or (edns is not None and edns.dnssec_ok)):
        flags |= AD
    rcode = reply.rcode
    opt = b""
    if edns is not None:
        opt = opt_record(rcode, dnssec_ok=edns.dnssec_ok, options=options + reply.options)
    elif rcode > RCODE_PLAIN_MAX:
        rcode = SERVFAIL
    question = packet[HEADER_BYTES : query.end]
    room = limit - HEADER_BYTES - len(question)
    if edns is not None and len(reply.body) + len(opt) > room:
        opt = opt_record(rcode, dnssec_ok=edns.dnssec_ok)
    body, counts, cut = _fitting(reply, room - len(opt))
    header = _HEADER.pack(query.id, flags | rcode & 15 | cut, 1, counts[0], counts[1], counts[2] + (edns is not None))
    return header + question + body + opt


def fail(rcode: int, packet: bytes, query: Query, limit: int, *reasons: Reason) -> bytes:
    """Return an error without records; the reasons reach clients that speak EDNS."""
    reply = Reply(rcode, 0, (0, 0, 0), b"", 0, 0, (), 0)
    return finish(reply, packet, query, limit, b"".join(map(option, reasons)) if query.edns else b"")


def aged(reply: Reply, age_s: int) -> bytes:
    """Return the body with every time to live counted down by `age_s`."""
    body = bytearray(reply.body)
    for at in reply.ttls:
        _LONG.pack_into(body, at, max(_LONG.unpack_from(body, at)[0] - age_s, 0))
    return bytes(body)


def with_ttl(reply: Reply, ttl_s: int) -> bytes:
    """Return the body with every time to live set to `ttl_s`."""
    body = bytearray(reply.body)
    for at in reply.ttls:
        _LONG.pack_into(body, at, ttl_s)
    return bytes(body)


def _fitting(reply: Reply, room: int) -> tuple[bytes, tuple[int, int, int], int]:
    """Return what fits of the body, its counts, and TC when the answer itself does not."""
    body, counts = reply.body, reply.counts
    if len(body) <= room:
        return body, counts, 0
    if reply.authority_end <= room:
        return body[: reply.authority_end], (counts[0], counts[1], 0), 0
    if counts[0] and reply.rcode != NXDOMAIN and reply.answer_end <= room:
        return body[: reply.answer_end], (counts[0], 0, 0), 0
    return b"", (0, 0, 0), TC
