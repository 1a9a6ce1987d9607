"""What forwarding asks of the world, and what it tells about itself.

Plain values; they are carried out in `serve/upstream.py` and counted in `serve/metrics.py`. The three that every query
needs are no named tuples, which take twice as long to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from meshdns.resolver.query.exchange import Try
from meshdns.resolver.query.servers import Server
from meshdns.resolver.query.wire import Query

Respond = Callable[[bytes], None]


class Send:
    """Send the try's message, an id in front of it, to its server."""

    __slots__ = ("attempt",)

    def __init__(self, attempt: Try) -> None:
        self.attempt: Final = attempt


class Forget:
    """Listen no more for what comes back to this try."""

    __slots__ = ("attempt",)

    def __init__(self, attempt: Try) -> None:
        self.attempt: Final = attempt


class Answer:
    """Give a client its finished reply."""

    __slots__ = ("message", "respond")

    def __init__(self, respond: Respond, message: bytes) -> None:
        self.respond: Final = respond
        self.message: Final = message


class CheckLoop(NamedTuple):
    """Find out with `Forwarding.check_loop` whether the server leads back to us."""

    server: Server


class Loops(NamedTuple):
    """Tell people that the server leads back to us."""

    server: Server


Effect = Send | Forget | Answer | CheckLoop | Loops


Source = Literal["cache", "stale", "upstream", "error"]
"""Where an answer came from, as metrics name it. No enum: its members hash slowly, and this counts every reply."""


@dataclass(slots=True, eq=False)
class Outcome:
    """How one query was answered. `server` is who said it, now or when it was kept; empty when nobody did."""

    query: Query
    stream: bool
    source: Source
    rcode: int
    took_s: float
    server: str


@dataclass(slots=True)
class ForwardCounters:
    """What happened so far. `replies` by source, over TCP or not, type (0 for rare ones) and RCODE."""

    replies: dict[tuple[Source, bool, int, int], int] = field(default_factory=dict)
    exchanges: int = 0
    joined: int = 0
    overloaded: int = 0
    garbage: int = 0
    truncated: int = 0
    loops: int = 0
