"""A line of JSON for each reply: who asked what, what was answered, from where, and where the time went.

Listeners tell what they saw as an `Observation`, forwarding as an `Outcome`; here the two become one line. Where lines
go is the caller's business. Without a query log nobody tells anything, and it costs nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from meshdns.resolver.query.effects import Outcome
from meshdns.resolver.query.wire import Malformed, Query, parse
from meshdns.resolver.serve.metrics import RCODE_NAMES, TYPE_NAMES
from meshdns.resolver.table.names import to_text

OUTCOMES_MAX: Final = 8192
"""Outcomes whose reply has not been seen: more than can be in flight. Those of the relay and of `explain` never are."""


class Observation(NamedTuple):
    """One reply. `decided_ns` is the time until it was decided where it comes from, `total_ns` until it was sent.

    `forwarded` is what was asked in place of `packet` where our table had no answer: a query's own `Forward.query`.
    """

    transport: Literal["udp", "tcp"]
    client: Any
    packet: bytes
    reply: bytes
    decided_ns: int
    total_ns: int
    forwarded: Query | None = None


Observe = Callable[[Observation], None]


class QueryLog:
    """Writes a line for each observation."""

    def __init__(self, write: Callable[[str], None]) -> None:
        """`write` gets each line, without its end."""
        self._write = write
        self._outcomes: dict[int, Outcome] = {}  # by the identity of their query, which they keep alive

    def forwarded(self, outcome: Outcome) -> None:
        """Remember how a query was answered that our table could not answer; its reply is on its way."""
        if len(self._outcomes) >= OUTCOMES_MAX:
            del self._outcomes[next(iter(self._outcomes))]
        self._outcomes[id(outcome.query)] = outcome

    def replied(self, seen: Observation) -> None:
        """Write the line of one reply."""
        query = parse(seen.packet)
        name, kind = None, None
        outcome = self._outcomes.pop(id(seen.forwarded), None)
        if not isinstance(query, Malformed):
            name, kind = to_text(query.name), TYPE_NAMES.get(query.qtype, f"TYPE{query.qtype}")
        rcode = seen.reply[3] & 15
        line = {
            "time": _now(),
            "client": f"{seen.client[0]}#{seen.client[1]}" if seen.client else "",
            "transport": seen.transport,
            "name": name,
            "type": kind,
            "rcode": RCODE_NAMES.get(rcode, str(rcode)),
            "answers": int.from_bytes(seen.reply[6:8], "big"),
            "source": outcome.source if outcome else "local",
            "server": outcome.server if outcome and outcome.server else None,
            "decided_us": round(seen.decided_ns / 1000, 1),
            "total_us": round(seen.total_ns / 1000, 1),
        }
        self._write(json.dumps(line))


def _now() -> str:
    """Return the time by RFC 3339, in UTC, to the millisecond."""
    now_s, rest_ns = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_s))}.{rest_ns // 1_000_000:03d}Z"
