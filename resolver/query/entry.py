"""One answer in the cache, and the messages for clients that are made of it.

A client that asks as nearly all do gets its message without being parsed: `at_once` puts it together from the packet's
own bytes and from pieces that were cut when the answer was first asked for. Every other client gets the same by
`answer`, from its parsed query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import inf
from struct import Struct
from typing import Final, NamedTuple

from meshdns.resolver.query.decision import NO_GENERATION, tally_key
from meshdns.resolver.query.finish import QR_AND_RA, RD_AND_CD, Reason, aged, finish, option, with_ttl
from meshdns.resolver.query.reply import AD, Reply
from meshdns.resolver.query.wire import (
    COMMON_HEADERS,
    HEADER_BYTES,
    NXDOMAIN,
    QUESTION_TAIL_BYTES,
    UDP_PLAIN_BYTES,
    Query,
)

STALE_TTL_S: Final = 30
"""Time to live of an answer that is past its own (RFC 8767, section 4)."""

REFRESH_PART: Final = 0.1
REFRESH_TTL_MIN_S: Final = 10
"""An answer that is asked for often is refreshed in the last tenth of its life, if that life is worth it."""

STALE_ANSWER: Final = Reason(3)
STALE_NXDOMAIN: Final = Reason(19)
CACHED_ERROR: Final = Reason(13)
"""RFC 8914, sections 4.4, 4.20 and 4.14."""

ASKED_COMMONLY: Final = frozenset(header for header in COMMON_HEADERS if header[0] & 1)
"""Headers without their id of the queries that are answered at once: those with RD."""

PIECE_OVERHEAD_BYTES: Final = 48
"""A bytes object and its place in a tuple, on CPython 3.11."""

_TTL_BYTES: Final = 4
COUNTS: Final = Struct("!HHH")
_SHORT: Final = Struct("!H")
_FLAGS_AND_QDCOUNT: Final = Struct("!HH")


class _Ready(NamedTuple):
    """What an answer's messages are made of: all but the client's id, flags and question.

    `heads`: a common query's header without its id -> the reply's flags and QDCOUNT. `pieces`: the body without its
    times to live, where all of these are `ttl_s`; else none. `counted`: where a message is counted (`tally_key`).
    """

    heads: Mapping[bytes, bytes]
    counts: bytes
    counts_edns: bytes
    pieces: tuple[bytes, ...]
    ttl_s: int
    counted: bytes


class Entry:
    """One answer, and what is known of how it is asked for.

    `not_ours_in`: the generation of the table in which neither its name nor anything that it leads to is one of ours.
    `size_bytes`: what it holds besides the overhead; the body twice, as it came and in pieces.
    """

    __slots__ = (
        "_aged", "_dnssec_ok", "_plain", "_ready",
        "failed_s", "fresh_until_s", "good", "hits", "not_ours_in", "recent", "refresh_at_s", "reply", "server",
        "size_bytes", "stored_s",
    )  # fmt: skip

    def __init__(self, reply: Reply, server: str, now: float, lifetime_s: int, *, dnssec_ok: bool) -> None:
        """Keep `reply` of `server` from now on for `lifetime_s`."""
        self.reply = reply
        self.good = reply.good
        self.server = server
        self.stored_s = now
        self.fresh_until_s = now + lifetime_s
        worth_it = lifetime_s >= REFRESH_TTL_MIN_S
        self.refresh_at_s = self.fresh_until_s - lifetime_s * REFRESH_PART if worth_it else inf
        self.failed_s = -inf
        self.hits = 0
        self.recent = False
        self.not_ours_in = NO_GENERATION
        self._dnssec_ok = dnssec_ok
        self._plain = self.good and not reply.options
        self._ready: _Ready | None = None
        self._aged: tuple[int, bytes] = 0, reply.body
        self.size_bytes = 2 * len(reply.body) + PIECE_OVERHEAD_BYTES * len(reply.ttls) + len(reply.options)

    def at_once(
        self, packet: bytes, past: int, opt: tuple[int, bytes] | None, now: float
    ) -> tuple[bytes, bytes] | None:
        """Return the message for a query of a common header whose question ends at `past`, and where to count it.

        `opt` is what `COMMON_OPTS` says of its OPT. None: the query must be parsed, for the answer is about to end,
        holds options, or is too large for this client.
        """
        if now >= self.fresh_until_s or now >= self.refresh_at_s or not self._plain:
            return None
        ready = self._ready or self._made_ready(packet[past - QUESTION_TAIL_BYTES : past])
        age_s = int(now - self.stored_s)
        pieces = ready.pieces
        body = (ready.ttl_s - age_s).to_bytes(_TTL_BYTES, "big").join(pieces) if pieces else self._body(age_s)
        head = packet[:2] + ready.heads[packet[2:HEADER_BYTES]]
        if opt is None:
            message = head + ready.counts + packet[HEADER_BYTES:past] + body
            if len(message) > UDP_PLAIN_BYTES:
                return None
        else:
            message = head + ready.counts_edns + packet[HEADER_BYTES:past] + body + opt[1]
            if len(message) > opt[0]:
                return None
        self.hits += 1
        self.recent = True
        return message, ready.counted

    def answer(self, packet: bytes, query: Query, limit: int, now: float) -> bytes:
        """Return the message for the client that asked `packet`, with its times to live counted down."""
        reply = replace(self.reply, body=self._body(int(now - self.stored_s)))
        options = b"" if self.good or query.edns is None else option(CACHED_ERROR)
        return finish(reply, packet, query, limit, options)

    def stale_answer(self, packet: bytes, query: Query, limit: int) -> bytes:
        """Return the message of an answer past its life, marked as such."""
        reply = replace(self.reply, body=with_ttl(self.reply, STALE_TTL_S))
        reason = STALE_NXDOMAIN if reply.rcode == NXDOMAIN else STALE_ANSWER
        return finish(reply, packet, query, limit, option(reason))

    def _body(self, age_s: int) -> bytes:
        """Count the times to live down, at most once a second."""
        if self._aged[0] != age_s:
            self._aged = age_s, aged(self.reply, age_s)
        return self._aged[1]

    def _made_ready(self, kind: bytes) -> _Ready:
        """Cut the pieces when somebody asks again: most answers are never asked for again."""
        reply = self.reply
        answers, authorities, additionals = reply.counts
        pieces, ttl_s = _cut(reply)
        self._ready = _Ready(
            heads(reply.rcode, bool(reply.flags & AD), self._dnssec_ok),
            COUNTS.pack(answers, authorities, additionals),
            COUNTS.pack(answers, authorities, additionals + 1),
            pieces,
            ttl_s,
            _counted(_SHORT.unpack_from(kind)[0], reply.rcode),
        )
        return self._ready


def _cut(reply: Reply) -> tuple[tuple[bytes, ...], int]:
    """Return the body's pieces between its times to live and what these are; no pieces where they differ."""
    body, ttls = reply.body, reply.ttls
    found = {body[at : at + _TTL_BYTES] for at in ttls}
    if len(found) != 1:
        return (), 0
    starts = (0, *[at + _TTL_BYTES for at in ttls])
    pieces = tuple([body[start:end] for start, end in zip(starts, (*ttls, len(body)), strict=True)])
    return pieces, int.from_bytes(found.pop(), "big")


@cache
def heads(rcode: int, authentic: bool, dnssec_ok: bool) -> Mapping[bytes, bytes]:  # noqa: FBT001 - a cache looks keywords up slowly
    """Return what replies begin with after the id, by the header of the query; for a few kinds of replies."""
    heads = {}
    for header in ASKED_COMMONLY:
        (asked,) = _SHORT.unpack_from(header)
        understood = AD if authentic and (dnssec_ok or asked & AD) else 0  # RFC 6840, section 5.8
        heads[header] = _FLAGS_AND_QDCOUNT.pack(QR_AND_RA | asked & RD_AND_CD | understood | rcode, 1)
    return heads


@cache
def _counted(qtype: int, rcode: int) -> bytes:
    return tally_key(qtype, rcode)
