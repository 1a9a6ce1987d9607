"""What becomes of a packet other than a reply of ours, and how replies are counted. Types only."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from meshdns.resolver.query.chase import Chase
from meshdns.resolver.query.wire import Query

COUNTED_TYPES: Final = frozenset((1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 43, 48, 52, 64, 65, 255, 257))
"""Types that are counted apart; strangers must not make the counters grow without end."""

NO_GENERATION: Final = -1
"""Of no table."""

_KIND_BYTES: Final = 4  # type and class


class Drop(Enum):
    """Why a packet gets no reply at all."""

    SHORT = "short"
    RESPONSE = "response"


@dataclass(slots=True)
class Forward:
    """Not ours: `packet` is to be asked upstream. `query` describes `packet`; `limit` is the reply's bound in bytes.

    `whole`: an opcode other than QUERY or a class other than IN; passed on as it is, never cached. With `chase`,
    `packet` asks for an ExternalName's target in place of the client's name; `complete` makes the client's reply.
    `not_ours_in`: the generation of the table that does not have the name; that of no table with `chase`.
    """

    packet: bytes
    query: Query
    limit: int
    whole: bool
    chase: Chase | None = None
    not_ours_in: int = NO_GENERATION

    def complete(self, packet: bytes, reply: bytes) -> bytes:
        """Return what goes to the client that sent `packet`, `reply` being the finished one to this question."""
        if self.chase is None:
            return reply
        return self.chase.complete(packet, reply, self.query, self.limit)


Submit = Callable[[bytes, Forward, Hashable, int, Callable[[bytes], None]], None]
"""Takes a packet to be forwarded, what describes it, who asks, the reply's bound in bytes, and what takes the reply."""

Tally = dict[bytes, int]
"""Finished replies, counted: a `defaultdict(int)` that its owner reads with `read_tally`."""


def read_tally(tally: Tally) -> dict[tuple[int, int], int]:
    """Return the counts by (type, RCODE); type 0 stands for a question that could not be read and for rare types."""
    counts: dict[tuple[int, int], int] = {}
    for key, count in tally.items():
        kind = (int.from_bytes(key[:2], "big"), key[4] if len(key) > _KIND_BYTES else 0)
        counts[kind] = counts.get(kind, 0) + count
    return counts


def tally_key(qtype: int, rcode: int) -> bytes:
    """Return where a reply is counted; rare types share a place."""
    return (qtype if qtype in COUNTED_TYPES else 0).to_bytes(2, "big") + b"\0\1" + bytes((rcode,))
