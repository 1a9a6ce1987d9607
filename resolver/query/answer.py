"""One packet in, one decision out: the order of decisions, and what our own names answer.

`decide` is the hot function. It never raises, logs, waits, or looks at a clock; what it costs for the worst packet of
512 bytes is bounded by what it costs for a plain one.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from meshdns.resolver.query.wire import Query
from meshdns.resolver.table.live import Table


class Drop(Enum):
    """Why a packet gets no reply at all."""

    SHORT = "short"
    RESPONSE = "response"


class Forward(NamedTuple):
    """Not ours: `packet` is to be asked upstream. `query` describes `packet`; `limit` is the reply's bound in bytes.

    `whole`: an opcode other than QUERY or a class other than IN; passed on as it is, never cached. `prefix` is empty
    but for an ExternalName whose target is not ours: then `packet` asks for the target, and `relabel(forward, reply)`
    makes the client's reply of the upstream's.
    """

    packet: bytes
    query: Query
    limit: int
    whole: bool
    prefix: bytes = b""


Tally = dict[bytes, int]
"""Counts of finished replies; `read_tally` gives them by type and RCODE."""


def decide(packet: bytes, table: Table, tally: Tally, stream: bool = False) -> bytes | Forward | Drop:
    """Return the finished reply, or where the packet goes instead."""
    raise NotImplementedError


def relabel(forward: Forward, reply: bytes) -> bytes:
    """Make the client's reply of an upstream's reply to a question that `decide` put in place of the client's."""
    raise NotImplementedError
