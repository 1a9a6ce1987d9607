"""From what an upstream said, or from a reason why it said nothing, to the message that the client is sent.

The client's id, its own spelling of the name, RD and CD come back; RA is set, AA is not, AD only for a client that
understands it (RFC 6840, section 5.8). An OPT record goes to who sent one. What does not fit is left out whole: first
additional records, then authority, and only when the answer itself does not fit TC says so (RFC 2181, section 9).
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from meshdns.resolver.query.reply import AD, TC, Reply
from meshdns.resolver.query.wire import HEADER_BYTES, NXDOMAIN, SERVFAIL, Query, opt_record

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
    rcode = reply.rcode
    flags = QR_AND_RA | query.flags & RD_AND_CD | reply.flags & TC | rcode & 15
    if reply.flags & AD and (query.flags & AD or (edns is not None and edns.dnssec_ok)):
        flags |= AD
    opt = b""
    if edns is not None:
        opt = opt_record(rcode, dnssec_ok=edns.dnssec_ok, options=options + reply.options)
    elif rcode > RCODE_PLAIN_MAX:
        flags = flags & ~15 | SERVFAIL
    answers, authorities, additionals = reply.counts
    header = _HEADER.pack(query.id, flags, 1, answers, authorities, additionals + (edns is not None))
    message = header + packet[HEADER_BYTES : query.end] + reply.body + opt
    return message if len(message) <= limit else _cut(reply, packet, query, limit, flags)


def _cut(reply: Reply, packet: bytes, query: Query, limit: int, flags: int) -> bytes:
    """Return what fits: without options, without additional records, without authority, or with TC and nothing."""
    edns = query.edns
    opt = b"" if edns is None else opt_record(reply.rcode, dnssec_ok=edns.dnssec_ok)
    question = packet[HEADER_BYTES : query.end]
    room = limit - HEADER_BYTES - len(question) - len(opt)
    body, (answers, authorities, additionals) = reply.body, reply.counts
    if len(body) > room:
        body, additionals = body[: reply.authority_end], 0
    if len(body) > room and answers and reply.rcode != NXDOMAIN:
        body, authorities = body[: reply.answer_end], 0
    if len(body) > room:
        body, answers, authorities, flags = b"", 0, 0, flags | TC
    return _HEADER.pack(query.id, flags, 1, answers, authorities, additionals + bool(opt)) + question + body + opt


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
