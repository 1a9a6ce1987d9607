"""What a client is told: the answer from upstream or from the cache, or why there is none.

Every function returns the message, where it came from, its RCODE, and the server that said it. Reasons are extended DNS
errors (RFC 8914), for clients that speak EDNS, and name the server, so that `dig` tells an operator where to look.
"""

from __future__ import annotations

from typing import Final

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.query.asking import Asking, Client
from meshdns.resolver.query.complete import Find, complete
from meshdns.resolver.query.effects import Source
from meshdns.resolver.query.entry import Entry
from meshdns.resolver.query.finish import Reason, fail, finish, option
from meshdns.resolver.query.reply import Reply
from meshdns.resolver.query.servers import Server
from meshdns.resolver.query.wire import (
    HEADER_BYTES,
    QUESTION_TAIL_BYTES,
    REFUSED,
    SERVFAIL,
    STREAM_MOST_BYTES,
    error,
    truncate,
)

OTHER_ERROR: Final = 0
NOT_READY: Final = 14
NO_REACHABLE_AUTHORITY: Final = 22
"""INFO-CODEs of extended DNS errors (RFC 8914, section 4)."""

Telling = tuple[bytes, Source, int, str]


def room(forward: Forward) -> int:
    """Return how large the reply to the forwarded question may be; where it is only a part, the whole is cut later."""
    return forward.limit if forward.chase is None else STREAM_MOST_BYTES


def kept(forward: Forward, entry: Entry, find: Find | None, now: float) -> bytes:
    """Return the answer from the cache; without `find` a chain is left as it is."""
    if find is not None:
        completed = _completed(forward, entry.reply, find, int(now - entry.stored_s))
        if completed is not None:
            return completed
        entry.not_ours_in = forward.not_ours_in
    return entry.answer(forward.packet, forward.query, room(forward), now)


def settled(client: Client, asking: Asking, find: Find) -> Telling:
    """Tell what came of the exchange."""
    forward, reply = client.forward, asking.outcome
    if reply is None or asking.settled_by is None:
        losses = ", ".join(f"{server.name}: {loss.value}" for server, loss in asking.losses.items())
        return _failed(forward, SERVFAIL, Reason(NO_REACHABLE_AUTHORITY, losses))
    by = asking.settled_by.name
    if asking.raw_reply is not None:
        message = truncate(forward.packet[:2] + asking.raw_reply[2:], forward.limit)
        return message, "upstream", message[3] & 15, by
    if not reply.good:
        reason = b"" if reply.options else option(Reason(OTHER_ERROR, f"{by} answered with this error"))
        return finish(reply, forward.packet, forward.query, room(forward), reason), "error", reply.rcode, by
    if reply.truncated and forward.limit == STREAM_MOST_BYTES and not client.real:
        # TC would send a client to TCP, and this one is there already (RFC 2181, section 9)
        return _failed(
            forward, SERVFAIL, Reason(NO_REACHABLE_AUTHORITY, f"{by} cut its answer short and gave none over TCP")
        )
    completed = _completed(forward, reply, find) if reply.chain and not client.real else None
    message = completed or finish(reply, forward.packet, forward.query, room(forward))
    return message, "upstream", message[3] & 15, by


def nobody_to_ask(client: Client, looping: tuple[Server, ...]) -> Telling:
    """Tell that there is no upstream, or none that does not lead back to us."""
    if not looping:
        return _failed(client.forward, SERVFAIL, Reason(NOT_READY, "no upstream nameserver is configured"))
    names = ", ".join(server.name for server in looping)
    return _failed(client.forward, SERVFAIL, Reason(OTHER_ERROR, f"loop: {names} leads back to this resolver"))


def own_query(client: Client, server: Server) -> Telling:
    """Tell the upstream that asks us what we asked it that it leads back to us."""
    return _failed(client.forward, REFUSED, Reason(OTHER_ERROR, f"loop: {server.name} leads back to this resolver"))


def overloaded(client: Client) -> Telling:
    """Tell that no place is free."""
    return _failed(client.forward, SERVFAIL, Reason(OTHER_ERROR, "too many queries wait for an upstream"))


def _failed(forward: Forward, rcode: int, reason: Reason) -> Telling:
    query = forward.query
    if query.end == HEADER_BYTES:
        return error(forward.packet, rcode, query.edns), "error", rcode, ""
    return fail(rcode, forward.packet, query, room(forward), reason), "error", rcode, ""


def _completed(forward: Forward, reply: Reply, find: Find, age_s: int = 0) -> bytes | None:
    """Return the answer with the end of its CNAME chain from our own table, if that is where it leads."""
    if not reply.chain:
        return None
    packet, query = forward.packet, forward.query
    kind = packet[query.end - QUESTION_TAIL_BYTES : query.end]
    joined = complete(reply, kind, query.end - HEADER_BYTES, find, age_s)
    return None if joined is None else finish(joined, packet, query, room(forward))
