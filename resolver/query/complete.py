"""A reply whose CNAMEs lead to a name of ours: the chain stays, what it leads to comes from our table.

So a public name that ends in a mesh host reaches the mesh, not the public address (or NXDOMAIN) that upstreams know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from struct import Struct
from typing import Final

from meshdns.resolver.query.answer import decide
from meshdns.resolver.query.reply import CNAME, SOA, Alias, Reply, read
from meshdns.resolver.query.wire import HEADER_BYTES, NOERROR, POINTER, RECORD, skip_name
from meshdns.resolver.table.live import Table

Find = Callable[[bytes, bytes], bytes | None]
"""(name in wire form, type and class in wire form) -> our own finished reply to that question, or None: not ours."""

_SELF_CONTAINED: Final = frozenset({1, 28, SOA})
"""A, AAAA, SOA: written without compression but for the owner, so that they may stand anywhere."""

_QUERY_HEADER: Final = b"\0\0\1\0\0\1\0\0\0\0\0\0"
"""Id 0, RD, one question."""

_OWNER: Final = Struct("!H")


def finder(table: Callable[[], Table]) -> Find:
    """Return a `Find` that asks whatever table is current when a reply needs it."""

    def find(name: bytes, kind: bytes) -> bytes | None:
        answer = decide(_QUERY_HEADER + name + kind, table(), defaultdict(int), stream=True)
        return answer if isinstance(answer, bytes) else None

    return find


def complete(reply: Reply, kind: bytes, question_bytes: int, find: Find, age_s: int = 0) -> Reply | None:
    """Return the reply with its chain's first name of ours answered by us; None when it leads to none."""
    for index, alias in enumerate(reply.chain):
        own = find(alias.target, kind)
        if own is None:
            continue
        answer = read(own, alias.target.lower(), kind)
        if answer is None or answer.rcode != NOERROR or answer.truncated:
            return None
        return _joined(reply.chain[: index + 1], answer, HEADER_BYTES + question_bytes, age_s)
    return None


def _joined(chain: tuple[Alias, ...], answer: Reply, start: int, age_s: int) -> Reply | None:
    records = b""
    owner = HEADER_BYTES
    for alias in chain:
        head = _OWNER.pack(POINTER << 8 | owner)
        ttl_s = max(alias.ttl_s - age_s, 0)
        owner = start + len(records) + len(head) + RECORD.size
        records += head + RECORD.pack(CNAME, 1, ttl_s, len(alias.target)) + alias.target
    own = _moved(answer, owner)
    if own is None or owner > 0x3FFF:  # noqa: PLR2004 - as far as a compression pointer reaches, RFC 1035
        return None
    chained = len(records)
    return replace(
        answer,
        flags=0,
        counts=(answer.counts[0] + len(chain), answer.counts[1], 0),
        body=records + own,
        answer_end=chained + answer.answer_end,
        authority_end=chained + answer.authority_end,
        ttls=(),
        chain=(),
    )


def _moved(answer: Reply, owner: int) -> bytes | None:
    """Return answer and authority with the name asked for at `owner` instead of behind the header."""
    body = answer.body[: answer.authority_end]
    moved = bytearray(body)
    at = 0
    while at < len(body):
        if body[at] >= POINTER:
            if body[at : at + 2] != b"\xc0\x0c":
                return None
            _OWNER.pack_into(moved, at, POINTER << 8 | owner)
        past = skip_name(body, at)
        rtype, _, _, length = RECORD.unpack_from(body, past)
        if rtype not in _SELF_CONTAINED:
            return None
        at = past + RECORD.size + length
    return bytes(moved)
