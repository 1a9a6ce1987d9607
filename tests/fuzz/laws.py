"""What must hold for any bytes, a function for each door that strangers' bytes come through. A broken law raises."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.opcode
from tables import WORLD, answer, table_of

from meshdns.resolver.query.answer import Drop, Forward
from meshdns.resolver.query.finish import finish
from meshdns.resolver.query.reply import read as read_reply
from meshdns.resolver.query.wire import Query, parse
from meshdns.resolver.source.manifest import Break
from meshdns.resolver.source.read import Ignored, read
from meshdns.resolver.table.build import Table

CORPUS: Final = Path(__file__).parent / "corpus"
"""A folder for each law; every file is bytes that once reached code which nothing before had reached."""
UDP_MAX: Final = 4096
TCP_MAX: Final = 65535
NAME: Final = b"\x03www\x07example\0"
ADDRESS_IN: Final = b"\0\1\0\1"
ASKED: Final = b"\0\7\1\0\0\1\0\0\0\0\0\0" + NAME + ADDRESS_IN
NAMES_MAX: Final = 20
"""Names of one manifest that are asked for; more of them say nothing new."""


@cache
def world() -> Table:
    """Return the table that most tests go by."""
    return table_of(*WORLD)


def any_query(packet: bytes) -> None:
    """Check that a client's packet is dropped, forwarded as it came, or answered readably within the limit."""
    for stream in (False, True):
        decision = answer(world(), packet, stream=stream)
        if isinstance(decision, Drop):
            assert len(packet) < 12 or packet[2] & 0x80
        elif isinstance(decision, Forward):
            assert decision.chase is not None or decision.packet == packet
        else:
            assert decision[:2] == packet[:2]
            assert decision[2] & 0x80
            assert len(decision) <= (TCP_MAX if stream else UDP_MAX)
            assert dns.message.from_wire(decision).opcode() == dns.opcode.QUERY


def any_reply(message: bytes) -> None:
    """Check that an upstream's message is refused, or passed on within the limit with the same records or TC."""
    reply = read_reply(message, NAME, ADDRESS_IN)
    if reply is None:
        return
    query = parse(ASKED)
    assert isinstance(query, Query)
    for limit in (512, 1232, TCP_MAX):
        finished = finish(reply, ASKED, query, limit)
        assert len(finished) <= limit
        assert finished[:2] == ASKED[:2]
        assert finished[12 : 12 + len(NAME) + 4] == NAME + ADDRESS_IN
        with contextlib.suppress(dns.exception.DNSException, ValueError):  # what dnspython refuses, it cannot compare
            before = dns.message.from_wire(message, ignore_trailing=True)
            after = dns.message.from_wire(finished)
            assert after.rcode() == before.rcode()
            # A name in a record's data may stand in the header, and is what the header makes it.
            same_header = dns.message.from_wire(finished[:4] + message[4:], ignore_trailing=True)
            assert after.answer == same_header.answer or after.flags & 0x0200


def any_manifest(data: bytes) -> None:
    """Check that a manifest gives entries or problems, and that what is answered from it can be read."""
    entries = []
    for outcome in read(data, "a.yaml", "default"):
        if isinstance(outcome, Ignored):
            continue
        problems = (outcome.problem,) if isinstance(outcome, Break) else outcome.problems
        assert all(str(problem).startswith("a.yaml") for problem in problems)
        if not isinstance(outcome, Break):
            assert outcome.entry or outcome.problems
            entries += [outcome.entry] if outcome.entry else []
    table = table_of(*entries)
    for row in table.rows[:NAMES_MAX]:
        for kind in (1, 28, 33, 12, 255):
            query = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + row.key + struct.pack("!HH", kind, 1)
            decision = answer(table, query, stream=True)
            if isinstance(decision, bytes):
                dns.message.from_wire(decision)


LAWS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "query": any_query,
    "reply": any_reply,
    "manifest": any_manifest,
}
"""Name of the law, and of the folder of its corpus."""
