"""One packet in, one decision out: the common case from ready bytes, everything else in the documented order.

`decide` never raises, logs, waits, or looks at a clock, and what it costs for the worst packet of 512 bytes is bounded
by what it costs for a plain one. Its first half, `at_once`, is the hot function. What a name of ours answers to whom is
decided in `own`.
"""

from __future__ import annotations

from typing import Final

from meshdns.resolver.query import wire
from meshdns.resolver.query.decision import Drop, Forward, Tally, read_tally, tally_key
from meshdns.resolver.query.own import CNAME, Asked, may_be_ours, own, probe
from meshdns.resolver.query.wire import COMMON_HEADERS, COMMON_OPTS, UDP_PLAIN_BYTES, Query, read_opt
from meshdns.resolver.table.live import Name, Table
from meshdns.resolver.table.names import NAME_BYTES
from meshdns.resolver.table.ready import (
    A_BYTES,
    A_KIND,
    AAAA_BYTES,
    AAAA_KIND,
    Answer,
    owned_by,
    rotated,
    section_counts,
)
from meshdns.resolver.table.records import OWNER, pointer, record

__all__ = ["Drop", "Forward", "Tally", "at_once", "by_order", "decide", "read_tally"]

_QUERY: Final = 0
_HTTPS_IN: Final = b"\0\x41\0\x01"


def decide(packet: bytes, table: Table, tally: Tally, stream: bool = False) -> bytes | Forward | Drop:  # noqa: FBT001, FBT002 - positional: a keyword costs a hundredth of the whole
    """Return the finished reply, or where the packet goes instead; `stream`: it came over TCP."""
    return at_once(packet, table, tally, stream) or by_order(packet, table, tally, stream=stream)


def at_once(packet: bytes, table: Table, tally: Tally, stream: bool = False) -> bytes | None:  # noqa: FBT001, FBT002 - as above
    """Return the finished reply to a query of a common shape; None: it is not ours or needs a closer look (`by_order`).

    What nearly every query is (a name of ours, with or without a search suffix, a common type and header) is answered
    here from ready bytes. A key of the table is a well-formed name, so bytes that equal one need no check: a length
    byte has no case.
    """
    end = packet.find(0, 12) + 1
    past = end + 4
    kind = packet[end:past]
    key = packet[12:end].lower()
    name = table.names.get(key)
    if name is None:
        answer = _expanded(table, key, kind, past)
    else:
        answer = name.a if kind == A_KIND else name.aaaa if kind == AAAA_KIND else _other(table, name, kind)
    head = COMMON_HEADERS.get(packet[2:12])
    if answer is not None and head is not None:
        if answer.without is not None and kind in table.closed:
            answer = answer.without
        counts, counts_edns, records, starts, length, _ = answer
        if starts is not None:
            start = next(starts)
            records = records[start : start + length]
        if not head[1]:
            reply = packet[:2] + head[0] + counts + packet[12:past] + records
            if len(reply) <= UDP_PLAIN_BYTES or stream:
                tally[kind] += 1
                return reply
        else:
            opt = COMMON_OPTS.get(packet[past : past + 11]) or read_opt(packet, past)
            if opt is not None:
                reply = packet[:2] + head[0] + counts_edns + packet[12:past] + records + opt[1]
                if len(reply) <= opt[0] or stream:
                    tally[kind] += 1
                    return reply
    return None


def _other(table: Table, name: Name, kind: bytes) -> Answer | None:
    """HTTPS is what browsers ask beside A and AAAA; no option and no annotation makes it anything but NODATA."""
    return table.nodata if kind == _HTTPS_IN and not name.row.cname else None


def _expanded(table: Table, key: bytes, kind: bytes, past: int) -> Answer | None:
    """Answer a name that is one of ours and a search suffix: with the pods' `ndots:5` most first questions are such.

    What is left of a suffix equals a key, so it needs no check either.
    """
    for suffix, _ in table.search:
        if key.endswith(suffix):
            name = table.names.get(key[: len(key) - len(suffix)] + b"\0")
            if name is not None and len(key) <= NAME_BYTES:
                answer = name.a if kind == A_KIND else name.aaaa if kind == AAAA_KIND else _other(table, name, kind)
                if answer is None or name.row.direct:
                    return answer
                answer = table.current(answer, kind)
                if not answer.length:
                    return answer
                return _aliased(name, answer, A_BYTES if kind == A_KIND else AAAA_BYTES, past)
    return None


def _aliased(name: Name, answer: Answer, size: int, past: int) -> Answer:
    """Put a CNAME from the name asked, whose question ends at `past`, before the addresses of its target."""
    target = name.row.key
    alias = OWNER + record(CNAME, name.row.ttl_s, target)
    records = alias + owned_by(pointer(past + len(alias) - len(target)), rotated(answer), size)
    return Answer(*section_counts(1 + answer.length // size, 0), records, None, len(records))


def by_order(packet: bytes, table: Table, tally: Tally, *, stream: bool = False) -> bytes | Forward | Drop:
    """Decide on any packet, in the documented order: what `at_once` answers gets the same reply here."""
    if len(packet) < wire.HEADER_BYTES:
        return Drop.SHORT
    if packet[2] & 0x80:
        return Drop.RESPONSE
    limit = wire.STREAM_MOST_BYTES if stream else wire.UDP_PLAIN_BYTES
    if packet[2] >> 3 != _QUERY:
        return Forward(packet, _header_only(packet), limit, whole=True)
    query = wire.parse(packet)
    if isinstance(query, wire.Malformed):
        return _refuse(packet, wire.FORMERR, query, tally)
    if query.edns is not None and query.edns.version:
        return _refuse(packet, wire.BADVERS, query, tally)
    if not stream and query.edns is not None:
        limit = wire.udp_limit(query.edns)
    if query.qclass != wire.IN:
        return Forward(packet, query, limit, whole=True)
    if may_be_ours(query.key, query.labels, table):
        asked = Asked(packet, query, limit, table, tally)
        decision = probe(asked) or (asked.refuse(wire.SERVFAIL) if table.servfail else own(asked))
        if decision is not None:
            return decision
    return Forward(packet, query, limit, False, None, table.common.generation)


def _header_only(packet: bytes) -> Query:
    ident, flags = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big")
    return Query(ident, flags, b"", b"", 0, 0, None, wire.HEADER_BYTES)


def _refuse(packet: bytes, rcode: int, query: Query | wire.Malformed, tally: Tally) -> bytes:
    qtype, end = (0, wire.HEADER_BYTES) if isinstance(query, wire.Malformed) else (query.qtype, query.end)
    tally[tally_key(qtype, rcode)] += 1
    return wire.error(packet, rcode, query.edns, end)
