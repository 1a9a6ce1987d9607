"""One question asked as a client asks it, and what is known about how it was answered: for `explain`, as plain values.

A name of ours is answered from the table; any other is asked for, and fills the cache as a client's question would. It
does not count among the answers from the table.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple

from meshdns.resolver.query.answer import Forward, decide
from meshdns.resolver.query.cache import cache_key
from meshdns.resolver.query.entry import Entry
from meshdns.resolver.query.finish import EDE
from meshdns.resolver.query.reply import Reply, addresses, read
from meshdns.resolver.query.wire import OPT, OUR_EDNS_BYTES, RECORD, STREAM_MOST_BYTES
from meshdns.resolver.serve.metrics import RCODE_NAMES
from meshdns.resolver.serve.upstream import Forwarder, ServerState
from meshdns.resolver.table.live import Table
from meshdns.resolver.table.names import label_starts, to_text
from meshdns.resolver.table.records import IN

HEADER: Final = struct.pack("!6H", 0, 0x0100, 1, 0, 0, 1)
"""RD, one question, and an OPT: only with that a reply says why there is no better one (RFC 8914)."""

_OPT: Final = b"\0" + RECORD.pack(OPT, OUR_EDNS_BYTES, 0, 0)
_OPTION: Final = struct.Struct("!HH")
_INFO_CODE_BYTES: Final = 2
_ADDRESS_BYTES: Final = {1: 4, 28: 16}


class Inquiry(NamedTuple):
    """What came of it, for people. `empty`: NOERROR without a record.

    Of a name that is not ours, `cache` says what was there before, and `upstreams` how those do who are asked for it, a
    line each; of others None and nothing.
    """

    said: str
    empty: bool
    cache: str | None = None
    upstreams: tuple[str, ...] = ()


async def inquire(forwarder: Forwarder, table: Table, key: bytes, qtype: int) -> Inquiry:
    """Ask for a name, `key` in lower-case wire form."""
    kind = struct.pack("!HH", qtype, IN)
    packet = HEADER + key + kind + _OPT
    began = time.perf_counter()
    decision = decide(packet, table, defaultdict(int), stream=True)
    if not isinstance(decision, Forward):
        assert isinstance(decision, bytes)  # noqa: S101 - a well-formed query is never dropped
        return _told(read(decision, key, kind), qtype, time.perf_counter() - began, "")
    asked = decision.query.key
    cached = _cached(forwarder, cache_key(asked, kind, 0))
    reply = read(await answered(forwarder, packet, decision), key, kind)
    took_s = time.perf_counter() - began
    entry = _kept(forwarder, cache_key(asked, kind, 0))
    told = _told(reply, qtype, took_s, "" if entry is None else f" from {entry.server}")
    servers = tuple(map(_server_line, _responsible(forwarder.servers(), asked)))
    return told._replace(cache=cached, upstreams=servers)


async def answered(forwarder: Forwarder, packet: bytes, decision: Forward) -> bytes:
    """Return the reply to a packet that is forwarded."""
    reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def respond(message: bytes) -> None:
        if not reply.done():
            reply.set_result(message)

    forwarder.submit(decision.packet, decision, "admin", STREAM_MOST_BYTES, respond)
    return decision.complete(packet, await reply)


def _told(reply: Reply | None, qtype: int, took_s: float, server: str) -> Inquiry:
    took = f"in {took_s * 1000:.2f} ms"
    if reply is None:
        return Inquiry(f"nothing that can be read, {took}", empty=False)
    rcode = RCODE_NAMES.get(reply.rcode, f"RCODE {reply.rcode}")
    reasons = "".join(f": {reason}" for reason in _reasons(reply.options))
    records = "" if reply.rcode else f", {_records(reply, qtype)}"
    return Inquiry(f"{rcode}{server}{records}, {took}{reasons}", empty=not reply.rcode and not reply.counts[0])


def _records(reply: Reply, qtype: int) -> str:
    """Say what the answer has: its addresses, or for other types how many records."""
    size = _ADDRESS_BYTES.get(qtype)
    found = [str(ip_address(rdata)) for rdata in addresses(reply, qtype) if len(rdata) == size]
    if found:
        return " ".join(found)
    count = reply.counts[0]
    return f"{count} record{'' if count == 1 else 's'}" if count else "no record"


def _reasons(options: bytes) -> Iterator[str]:
    """Yield the texts of the extended errors among EDNS options."""
    at = 0
    while at + _OPTION.size <= len(options):
        code, length = _OPTION.unpack_from(options, at)
        at += _OPTION.size + length
        text = options[at - length + _INFO_CODE_BYTES : at].decode(errors="replace")
        if code == EDE and text:
            yield text


def _kept(forwarder: Forwarder, key: bytes) -> Entry | None:
    return forwarder.cache.find(key, asyncio.get_running_loop().time())


def _cached(forwarder: Forwarder, key: bytes) -> str:
    entry = _kept(forwarder, key)
    if entry is None:
        return "nothing"
    now = asyncio.get_running_loop().time()
    left_s = entry.fresh_until_s - now
    rest = f"good for {left_s:.0f} s more" if left_s > 0 else f"stale for {-left_s:.0f} s"
    return f"answer of {entry.server}, {now - entry.stored_s:.0f} s old, {rest}"


def _responsible(servers: Iterable[ServerState], key: bytes) -> list[ServerState]:
    """Return those who are asked for the name: of the longest zone that it is in, or of none."""
    by_zone: dict[bytes, list[ServerState]] = {}
    for server in servers:
        by_zone.setdefault(server.zone, []).append(server)
    return next((by_zone[key[at:]] for at in label_starts(key) if key[at:] in by_zone), by_zone.get(b"", []))


def _server_line(server: ServerState) -> str:
    zone = f" for {to_text(server.zone)}" if server.zone else ""
    state = "leads back to us" if server.looping else "healthy" if server.healthy else "silent"
    rtt = "" if server.round_trip_s is None else f", {server.round_trip_s * 1000:.1f} ms"
    return f"{server.name}{zone}: {state}{rtt}, {server.failures} of {server.attempts} tries failed"
