"""A plain query: its first try, and all there is of it as long as nothing else happens.

It has a common shape, so that it is read no further than its bytes need, and its answer is put together from them.
What is done with it is decided in `fastpath`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from meshdns.resolver.query.decision import Forward
from meshdns.resolver.query.entry import COUNTS, heads
from meshdns.resolver.query.exchange import Try
from meshdns.resolver.query.reply import AD, Reply
from meshdns.resolver.query.servers import Server
from meshdns.resolver.query.wire import (
    DNSSEC_OK_AT,
    HEADER_BYTES,
    IN,
    UDP_PLAIN_BYTES,
    Query,
    labels_of,
    parse,
)

_TYPE_BYTES: Final = 2
_IN: Final = IN.to_bytes(2, "big")

SendTo = Callable[[Any, bytes], None]
"""Takes a client, as the listener knows it, and its finished reply."""


class Plain(Try):
    """A query that came in a datagram with a common header and OPT record; a `Try` once it is `begun`.

    `name` is lower-case, `kind` the four bytes of type and class, `key` what the answer is kept under. The question
    ends at `end`; `opt` is what `COMMON_OPTS` says of what follows, None for nothing. `not_ours_in` is the generation
    of the table that does not have the name. `who` asks; `send` gives them the reply, which is made of the server's
    `reply`. It was `sent_s` as it came.
    """

    __slots__ = ("end", "key", "kind", "name", "not_ours_in", "opt", "packet", "reply", "send", "servers", "who")

    not_ours_in: int
    reply: Reply
    servers: tuple[Server, ...]
    who: Hashable
    send: SendTo

    def __init__(
        self, packet: bytes, name: bytes, kind: bytes, key: bytes, end: int, opt: tuple[int, bytes] | None
    ) -> None:
        """Take what was read; `labels` says whether it is a query at all."""
        self.packet = packet
        self.name = name
        self.kind = kind
        self.key = key
        self.end = end
        self.opt = opt

    def labels(self) -> tuple[int, ...] | None:
        """Return where the name's labels start; None for a malformed name or another class than IN."""
        starts = labels_of(self.packet)
        if starts is None or starts.pop() + 1 != len(self.name) or self.kind[_TYPE_BYTES:] != _IN:
            return None
        return tuple(starts)

    def begun(self, servers: tuple[Server, ...], message: bytes) -> None:
        """Become the try that asks the first of these servers."""
        self.servers = servers
        self.server = servers[0]
        self.server.attempts += 1
        self.wait_s = self.server.wait_s
        self.message = message
        self.exchange = self.stop = None
        self.stream = self.over = self.overtaken = self.failed = False
        self.open = True

    def respond(self, reply: bytes) -> None:
        """Give the client its finished reply."""
        self.send(self.who, reply)

    def forward(self) -> Forward:
        """Return what `by_order` makes of the packet."""
        query = parse(self.packet)
        assert isinstance(query, Query)  # noqa: S101 - `labels` said so
        limit = UDP_PLAIN_BYTES if self.opt is None else self.opt[0]
        return Forward(self.packet, query, limit, whole=False, not_ours_in=self.not_ours_in)

    def answer(self, reply: Reply) -> bytes | None:
        """Return what `finish` makes of a good reply without options; None when that is more than the client takes."""
        packet, end, opt = self.packet, self.end, self.opt
        answers, authorities, additionals = reply.counts
        dnssec_ok = opt is not None and packet[end + DNSSEC_OK_AT] > 0x7F  # noqa: PLR2004 - DO is the top bit
        head = heads(reply.rcode, bool(reply.flags & AD), dnssec_ok)[packet[2:HEADER_BYTES]]
        question = packet[HEADER_BYTES:end]
        if opt is None:
            size, ours = UDP_PLAIN_BYTES, b""
        else:
            size, ours = opt
            additionals += 1
        message = packet[:2] + head + COUNTS.pack(answers, authorities, additionals) + question + reply.body + ours
        return message if len(message) <= size else None
