"""What our own names answer to each question, once a packet is understood: the rows of the documented table.

How a name is found stands in `table.live`, how a message is put together in `wire`. The questions that nearly every
client asks are answered before, in `answer`, from the same bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from meshdns.resolver.query import wire
from meshdns.resolver.query.chase import Chase
from meshdns.resolver.query.decision import Forward, Tally, tally_key
from meshdns.resolver.query.wire import NXDOMAIN, Query, Sections
from meshdns.resolver.table.live import Match, Name, Table
from meshdns.resolver.table.names import label_starts, reversed_digits
from meshdns.resolver.table.ready import A_BYTES, A_KIND, AAAA_BYTES, AAAA_KIND, Answer, owned_by, rotated
from meshdns.resolver.table.records import OWNER, pointer, record

A, CNAME, PTR, TXT, AAAA, SRV, SVCB, HTTPS, ANY = 1, 5, 12, 16, 28, 33, 64, 65, 255

CHAIN_MOST: Final = 8
"""ExternalNames that lead to each other; BIND follows 16, nobody needs more than two."""

_ALWAYS_OURS: Final = frozenset((A, AAAA, CNAME, SRV, SVCB, HTTPS, ANY))
_LOOPBACK: Final = b"\x7f\0\0\1"
_ARPA: Final = b"\x04arpa\0"
_HEX: Final = frozenset(b"0123456789abcdef")


class Asked(NamedTuple):
    """A readable query of class IN and all that an answer to it needs."""

    packet: bytes
    query: Query
    limit: int
    table: Table
    tally: Tally

    def reply(self, sections: Sections, rcode: int = wire.NOERROR) -> bytes:
        """Say what we know."""
        self.tally[tally_key(self.query.qtype, rcode)] += 1
        return wire.reply(self.packet, self.query, rcode, sections, self.limit)

    def refuse(self, rcode: int) -> bytes:
        """Say that we cannot say."""
        self.tally[tally_key(self.query.qtype, rcode)] += 1
        return wire.error(self.packet, rcode, self.query.edns, self.query.end)

    def negative(self, rcode: int = wire.NOERROR, zone: int = 0) -> bytes:
        """Say nothing, with the SOA that tells for how long; `zone`: where its owner begins in the name asked."""
        owner = pointer(wire.HEADER_BYTES + zone)
        return self.reply(Sections(0, 1, 0, owner + self.table.common.soa), rcode)


def may_be_ours(key: bytes, labels: tuple[int, ...], table: Table) -> bool:
    """Tell quickly of most names that they are not: neither in the table, nor a probe's, nor an address's."""
    common = table.common
    if key in table.names or key.endswith(_ARPA) or key.endswith(common.probe_suffix) or table.servfail:  # noqa: PIE810 - a tuple would be made
        return True
    if not table.wildcards and key[1:2] != b"_" and not key.endswith(common.search):
        return False
    return table.find(key, labels) is not None


def probe(asked: Asked) -> bytes | None:
    """Names that only we know; never forwarded, never counted."""
    query, suffix = asked.query, asked.table.common.probe_suffix
    if not query.key.endswith(suffix) or len(query.key) - len(suffix) not in query.labels:
        return None
    uncounted = asked._replace(tally=_Uncounted())
    token = query.key[1 : 1 + query.key[0]]
    if len(token) + 1 + len(suffix) != len(query.key) or not _HEX.issuperset(token):
        return uncounted.negative(NXDOMAIN if len(query.key) > len(suffix) else wire.NOERROR)
    if query.qtype in (TXT, ANY):
        text = b"v=1 %b %d" % (token, asked.table.common.generation)
        return uncounted.reply(Sections(1, 0, 0, OWNER + record(TXT, 0, bytes((len(text),)) + text)))
    if query.qtype == A:
        return uncounted.reply(Sections(1, 0, 0, OWNER + record(A, 0, _LOOPBACK)))
    return uncounted.negative()


class _Uncounted(dict[bytes, int]):
    """A tally that nobody reads."""

    def __missing__(self, key: bytes) -> int:
        return 0


def own(asked: Asked) -> bytes | Forward | None:
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


def _reverse(asked: Asked) -> bytes | None:
    """PTR names: of addresses of ours the host, of the rest of the pools nothing, and never upstream."""
    query, table = asked.query, asked.table
    if not query.key.endswith(_ARPA) or query.key in table.names:
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


def _chosen(qtype: int, asked: Asked, name: Name) -> tuple[Answer, int] | None:
    """Return the addresses for this type and the size of a record. ANY: one RRset the name has (RFC 8482)."""
    for address_type, answer, kind, size in ((A, name.a, A_KIND, A_BYTES), (AAAA, name.aaaa, AAAA_KIND, AAAA_BYTES)):
        if qtype in (address_type, ANY) and answer is not None:
            answered = asked.table.current(answer, kind)
            if answered.length:
                return answered, size
    return None


def _addresses(asked: Asked, name: Name) -> bytes:
    """Addresses directly under the name asked."""
    chosen = _chosen(asked.query.qtype, asked, name)
    if chosen is None:
        return asked.negative()
    answer, size = chosen
    return asked.reply(Sections(answer.length // size, 0, 0, rotated(answer)))


def _behind_cname(asked: Asked, match: Match) -> bytes:
    """Lead from an outside name under a search suffix to the name without it, and give that one's addresses."""
    query, row = asked.query, match.name.row
    target = query.name[: match.stem] + b"\0" if match.wildcard else row.key
    alias = OWNER + record(CNAME, row.ttl_s, target)
    if query.qtype in (CNAME, ANY):
        return asked.reply(Sections(1, 0, 0, alias))
    return _after_chain(asked, match.name, alias, 1, len(target))


def _after_chain(asked: Asked, name: Name, chain: bytes, links: int, target_bytes: int) -> bytes:
    """Finish CNAMEs with the addresses of their target, which is the name that the chain's bytes end with."""
    chosen = _chosen(asked.query.qtype, asked, name)
    if chosen is None:
        return asked.negative()
    answer, size = chosen
    owner = pointer(asked.query.end + len(chain) - target_bytes)
    return asked.reply(Sections(links + answer.length // size, 0, 0, chain + owned_by(owner, rotated(answer), size)))


def _service(asked: Asked, match: Match) -> bytes | None:
    """`_port._proto.host`: the ports of that name, or nothing of that name."""
    query, name = asked.query, match.name
    ports = dict(name.row.srv).get(query.key[: match.service])
    if ports is None:
        if name.row.forward_other_types:
            return None
        whole = match.service > 1 + query.key[0]
        return asked.negative(NXDOMAIN if whole else wire.NOERROR)
    if query.qtype not in (SRV, ANY):
        return asked.negative()
    target = query.name[match.service : match.stem] + b"\0" if match.wildcard else name.row.key
    records = b"".join([OWNER + record(SRV, name.row.ttl_s, head + target) for head in ports])
    owner = pointer(query.end + len(records) - len(target))
    extra, count = b"", 0
    for chosen in (_chosen(A, asked, name), _chosen(AAAA, asked, name)):
        if chosen is not None:
            answer, size = chosen
            extra += owned_by(owner, rotated(answer), size)
            count += answer.length // size
    return asked.reply(Sections(len(ports), 0, count, records, extra))


def _external_name(asked: Asked, name: Name) -> bytes | Forward:
    """ExternalName: the CNAME, and what its target answers, from our table or from upstream."""
    query, table = asked.query, asked.table
    chain, owner = b"", OWNER
    for links in range(1, CHAIN_MOST + 1):
        target = name.row.cname
        chain += owner + record(CNAME, name.row.ttl_s, target)
        if query.qtype in (CNAME, ANY):
            return asked.reply(Sections(1, 0, 0, chain))
        owner = pointer(query.end + len(chain) - len(target))
        match = table.find(target, label_starts(target), search=False)
        if match is None:
            return _chased(asked, target, Chase(query, chain, links))
        name = match.name
        if not name.row.cname:
            return _after_chain(asked, name, chain, links, len(target))
    return asked.refuse(wire.SERVFAIL)


def _chased(asked: Asked, target: bytes, chase: Chase) -> Forward:
    """Ask for the target in the place of the client's name, so that it is cached under the target's own."""
    packet, query = asked.packet, asked.query
    shift = len(target) - len(query.name)
    rest = packet[query.end - wire.QUESTION_TAIL_BYTES :]
    edns = query.edns
    if edns is not None:
        edns = edns._replace(start=edns.start + shift, end=edns.end + shift)
    question = replace(query, name=target, key=target, edns=edns, end=query.end + shift, labels=label_starts(target))
    return Forward(packet[: wire.HEADER_BYTES] + target + rest, question, asked.limit, whole=False, chase=chase)
