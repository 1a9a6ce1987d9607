"""One packet in, one decision out: the order of decisions, and what our own names answer.

`decide` is the hot function. It never raises, logs, waits, or looks at a clock, and what it costs for the worst packet
of 512 bytes is bounded by what it costs for a plain one. How a name is found stands in `table.live`, how a message is
put together in `wire`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from meshdns.resolver.query import wire
from meshdns.resolver.query.chase import Chase
from meshdns.resolver.query.wire import (
    COMMON_HEADERS,
    COMMON_OPTS,
    NXDOMAIN,
    UDP_PLAIN_BYTES,
    Query,
    Sections,
    read_opt,
)
from meshdns.resolver.table.live import A_BYTES, AAAA_BYTES, Answer, Match, Name, Table, section_counts
from meshdns.resolver.table.names import NAME_BYTES, label_starts, reversed_digits
from meshdns.resolver.table.records import OWNER, record

A, CNAME, PTR, TXT, AAAA, SRV, SVCB, HTTPS, ANY = 1, 5, 12, 16, 28, 33, 64, 65, 255

CHAIN_MOST: Final = 8
"""ExternalNames that lead to each other; BIND follows 16, nobody needs more than two."""

_QUERY: Final = 0
_A_IN: Final = b"\0\x01\0\x01"
_AAAA_IN: Final = b"\0\x1c\0\x01"
_HTTPS_IN: Final = b"\0\x41\0\x01"
_ALWAYS_OURS: Final = frozenset((A, AAAA, CNAME, SRV, SVCB, HTTPS, ANY))
_COUNTED_TYPES: Final = frozenset((1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 43, 48, 52, 64, 65, 255, 257))
_LOOPBACK: Final = b"\x7f\0\0\1"


class Drop(Enum):
    """Why a packet gets no reply at all."""

    SHORT = "short"
    RESPONSE = "response"


class Forward(NamedTuple):
    """Not ours: `packet` is to be asked upstream. `query` describes `packet`; `limit` is the reply's bound in bytes.

    `whole`: an opcode other than QUERY or a class other than IN; passed on as it is, never cached. With `chase`,
    `packet` asks for an ExternalName's target in place of the client's name; `complete` makes the client's reply.
    """

    packet: bytes
    query: Query
    limit: int
    whole: bool
    chase: Chase | None = None

    def complete(self, packet: bytes, reply: bytes) -> bytes:
        """Return what goes to the client that sent `packet`, `reply` being the finished one to this question."""
        if self.chase is None:
            return reply
        return self.chase.complete(packet, reply, self.query, self.limit)


Tally = dict[bytes, int]
"""Finished replies, counted: a `defaultdict(int)` that its owner reads with `read_tally`."""


def read_tally(tally: Tally) -> dict[tuple[int, int], int]:
    """Return the counts by (type, RCODE); type 0 stands for a question that could not be read and for rare types."""
    counts: dict[tuple[int, int], int] = {}
    for key, count in tally.items():
        kind = (int.from_bytes(key[:2], "big"), key[4] if len(key) > len(_A_IN) else 0)
        counts[kind] = counts.get(kind, 0) + count
    return counts


def decide(packet: bytes, table: Table, tally: Tally, stream: bool = False) -> bytes | Forward | Drop:  # noqa: FBT001, FBT002 - positional: a keyword costs a hundredth of the whole
    """Return the finished reply, or where the packet goes instead; `stream`: it came over TCP.

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
        answer = name.a if kind == _A_IN else name.aaaa if kind == _AAAA_IN else _other(table, name, kind)
    head = COMMON_HEADERS.get(packet[2:12])
    if answer is not None and head is not None:
        counts, counts_edns, records, starts, length = answer
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
    return _decide_by_order(packet, table, tally, stream=stream)


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
                answer = name.a if kind == _A_IN else name.aaaa if kind == _AAAA_IN else _other(table, name, kind)
                if answer is None or name.row.direct or not answer.length:
                    return answer
                return _aliased(name, answer, A_BYTES if kind == _A_IN else AAAA_BYTES, past)
    return None


def _aliased(name: Name, answer: Answer, size: int, past: int) -> Answer:
    """Put a CNAME from the name asked, whose question ends at `past`, before the addresses of its target."""
    target = name.row.key
    alias = OWNER + record(CNAME, name.row.ttl_s, target)
    records = alias + _owned_by(_pointer(past + len(alias) - len(target)), _rotated(answer), size)
    return Answer(*section_counts(1 + answer.length // size, 0), records, None, len(records))


def _decide_by_order(packet: bytes, table: Table, tally: Tally, *, stream: bool) -> bytes | Forward | Drop:
    """Decide on any packet, in the documented order."""
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
    if not stream:
        limit = wire.udp_limit(query.edns)
    if query.qclass != wire.IN:
        return Forward(packet, query, limit, whole=True)
    asked = _Asked(packet, query, limit, table, tally)
    return (
        _probe(asked)
        or (_refuse(packet, wire.SERVFAIL, query, tally) if table.servfail else None)
        or _own(asked)
        or Forward(packet, query, limit, whole=False)
    )


def _header_only(packet: bytes) -> Query:
    ident, flags = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big")
    return Query(ident, flags, b"", b"", 0, 0, None, wire.HEADER_BYTES)


def _refuse(packet: bytes, rcode: int, query: Query | wire.Malformed, tally: Tally) -> bytes:
    if isinstance(query, wire.Malformed):
        tally[b"\0\0\0\0" + bytes((rcode,))] += 1
        return wire.error(packet, rcode, query.edns)
    tally[_tally_key(query.qtype, rcode)] += 1
    return wire.error(packet, rcode, query.edns, query.end)


def _tally_key(qtype: int, rcode: int) -> bytes:
    """Types from strangers must not make the counters grow without end."""
    return (qtype if qtype in _COUNTED_TYPES else 0).to_bytes(2, "big") + b"\0\1" + bytes((rcode,))


class _Asked(NamedTuple):
    """A readable query of class IN and all that an answer to it needs."""

    packet: bytes
    query: Query
    limit: int
    table: Table
    tally: Tally

    def reply(self, sections: Sections, rcode: int = wire.NOERROR) -> bytes:
        self.tally[_tally_key(self.query.qtype, rcode)] += 1
        return wire.reply(self.packet, self.query, rcode, sections, self.limit)

    def negative(self, rcode: int = wire.NOERROR, zone: int = 0) -> bytes:
        """Nothing, and the SOA that says for how long; `zone`: where its owner begins in the name asked."""
        owner = _pointer(wire.HEADER_BYTES + zone)
        return self.reply(Sections(0, 1, 0, owner + self.table.common.soa), rcode)


def _pointer(offset: int) -> bytes:
    return (0xC000 | offset).to_bytes(2, "big")


def _probe(asked: _Asked) -> bytes | None:
    """Names that only we know; never forwarded, never counted."""
    query, suffix = asked.query, asked.table.common.probe_suffix
    if not query.key.endswith(suffix) or len(query.key) - len(suffix) not in query.labels:
        return None
    uncounted = asked._replace(tally=_Ignored())
    token = query.key[1 : 1 + query.key[0]]
    if len(token) + 1 + len(suffix) != len(query.key) or not _HEX.issuperset(token):
        return uncounted.negative(NXDOMAIN if len(query.key) > len(suffix) else wire.NOERROR)
    if query.qtype in (TXT, ANY):
        text = b"v=1 %b %d" % (token, asked.table.common.generation)
        return uncounted.reply(Sections(1, 0, 0, OWNER + record(TXT, 0, bytes((len(text),)) + text)))
    if query.qtype == A:
        return uncounted.reply(Sections(1, 0, 0, OWNER + record(A, 0, _LOOPBACK)))
    return uncounted.negative()


_HEX: Final = frozenset(b"0123456789abcdef")


class _Ignored(dict[bytes, int]):
    """A tally that nobody reads."""

    def __missing__(self, key: bytes) -> int:
        return 0


def _own(asked: _Asked) -> bytes | Forward | None:
    """Answer for a name of ours; None when it is not."""
    query, table = asked.query, asked.table
    reverse = _reverse(asked)
    if reverse is not None:
        return reverse
    match = table.find(query.key, query.labels)
    if match is None:
        return None
    row = match.name.row
    if row.forward_other_types and query.qtype not in _ALWAYS_OURS:
        return None
    if match.service:
        return _service(asked, match)
    if row.cname:
        return _external_name(asked, match.name)
    if match.stem < len(query.key) - 1 and not row.direct:
        return _behind_cname(asked, match)
    return _addresses(asked, match.name)


def _reverse(asked: _Asked) -> bytes | None:
    """PTR names: of addresses of ours the host, of the rest of the pools nothing, and never upstream."""
    query, table = asked.query, asked.table
    if not query.key.endswith(b"\x04arpa\x00") or query.key in table.names:
        return None
    digits = reversed_digits(query.key, query.labels)
    name = table.addresses.get(bytes.fromhex(digits)) if digits is not None and not len(digits) % 2 else None
    if name is not None and query.qtype in (PTR, ANY):
        return asked.reply(Sections(1, 0, 0, OWNER + record(PTR, name.row.ttl_s, name.row.key)))
    zone = table.reverse_zone(query.key, query.labels)
    if name is not None or (zone is not None and (not zone or _exists(table, digits))):
        return asked.negative(zone=zone or 0)
    return None if zone is None else asked.negative(NXDOMAIN, zone)


def _exists(table: Table, digits: str | None) -> bool:
    return digits is not None and table.has_addresses_below(digits)


def _chosen(qtype: int, name: Name) -> tuple[Answer, int] | None:
    """Return the addresses for this type and the size of a record. ANY: one RRset the name has (RFC 8482)."""
    a, aaaa = name.a, name.aaaa
    if qtype in (A, ANY) and a is not None and a.length:
        return a, A_BYTES
    if qtype in (AAAA, ANY) and aaaa is not None and aaaa.length:
        return aaaa, AAAA_BYTES
    return None


def _rotated(answer: Answer) -> bytes:
    if answer.starts is None:
        return answer.records
    start = next(answer.starts)
    return answer.records[start : start + answer.length]


def _owned_by(owner: bytes, records: bytes, size: int) -> bytes:
    """Give address records another owner."""
    return b"".join([owner + records[at + 2 : at + size] for at in range(0, len(records), size)])


def _addresses(asked: _Asked, name: Name) -> bytes:
    """Addresses directly under the name asked."""
    chosen = _chosen(asked.query.qtype, name)
    if chosen is None:
        return asked.negative()
    answer, size = chosen
    return asked.reply(Sections(answer.length // size, 0, 0, _rotated(answer)))


def _behind_cname(asked: _Asked, match: Match) -> bytes:
    """Lead from an outside name under a search suffix to the name without it, and give that one's addresses."""
    query, row = asked.query, match.name.row
    target = query.name[: match.stem] + b"\0" if match.wildcard else row.key
    alias = OWNER + record(CNAME, row.ttl_s, target)
    if query.qtype in (CNAME, ANY):
        return asked.reply(Sections(1, 0, 0, alias))
    return _after_chain(asked, match.name, alias, 1, len(target))


def _after_chain(asked: _Asked, name: Name, chain: bytes, links: int, target_bytes: int) -> bytes:
    """Finish CNAMEs with the addresses of their target, which is the name that the chain's bytes end with."""
    chosen = _chosen(asked.query.qtype, name)
    if chosen is None:
        return asked.negative()
    answer, size = chosen
    owner = _pointer(asked.query.end + len(chain) - target_bytes)
    return asked.reply(Sections(links + answer.length // size, 0, 0, chain + _owned_by(owner, _rotated(answer), size)))


def _service(asked: _Asked, match: Match) -> bytes | None:
    """`_port._proto.host`: the ports of that name, or nothing of that name."""
    query, name = asked.query, match.name
    ports = name.srv.get(query.key[: match.service])
    if ports is None:
        if name.row.forward_other_types:
            return None
        whole = match.service > 1 + query.key[0]
        return asked.negative(NXDOMAIN if whole else wire.NOERROR)
    if query.qtype not in (SRV, ANY):
        return asked.negative()
    target = query.name[match.service : match.stem] + b"\0" if match.wildcard else name.row.key
    records = b"".join([OWNER + record(SRV, name.row.ttl_s, head + target) for head in ports])
    owner = _pointer(query.end + len(records) - len(target))
    extra, count = b"", 0
    for chosen in (_chosen(A, name), _chosen(AAAA, name)):
        if chosen is not None:
            answer, size = chosen
            extra += _owned_by(owner, _rotated(answer), size)
            count += answer.length // size
    return asked.reply(Sections(len(ports), 0, count, records, extra))


def _external_name(asked: _Asked, name: Name) -> bytes | Forward:
    """ExternalName: the CNAME, and what its target answers, from our table or from upstream."""
    query, table = asked.query, asked.table
    chain, owner = b"", OWNER
    for links in range(1, CHAIN_MOST + 1):
        target = name.row.cname
        chain += owner + record(CNAME, name.row.ttl_s, target)
        if query.qtype in (CNAME, ANY):
            return asked.reply(Sections(1, 0, 0, chain))
        owner = _pointer(query.end + len(chain) - len(target))
        match = table.find(target, label_starts(target), search=False)
        if match is None:
            return _chased(asked, target, Chase(query, chain, links))
        name = match.name
        if not name.row.cname:
            return _after_chain(asked, name, chain, links, len(target))
    return _refuse(asked.packet, wire.SERVFAIL, query, asked.tally)


def _chased(asked: _Asked, target: bytes, chase: Chase) -> Forward:
    """Ask for the target in the place of the client's name, so that it is cached under the target's own."""
    packet, query = asked.packet, asked.query
    shift = len(target) - len(query.name)
    rest = packet[query.end - wire.QUESTION_TAIL_BYTES :]
    edns = query.edns
    if edns is not None:
        edns = edns._replace(start=edns.start + shift, end=edns.end + shift)
    question = query._replace(name=target, key=target, edns=edns, end=query.end + shift, labels=label_starts(target))
    return Forward(packet[: wire.HEADER_BYTES] + target + rest, question, asked.limit, whole=False, chase=chase)
