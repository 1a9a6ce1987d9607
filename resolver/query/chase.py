"""An ExternalName whose target is not ours: the upstream's reply about the target becomes the client's.

The client asked for the alias, so its question comes back, our CNAMEs stand first, and the upstream's records follow.
No name is spelt anew: the target stands at the end of our CNAMEs, and every compression pointer is moved by as much as
what it points at was (RFC 1035, section 4.1.4).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from meshdns.resolver.query.wire import (
    HEADER_BYTES,
    POINTER,
    QUESTION_TAIL_BYTES,
    RECORD,
    SERVFAIL,
    Query,
    error,
    truncate,
)
from meshdns.resolver.table.names import LABEL_BYTES, NAME_BYTES

_HEADER: Final = struct.Struct("!HHHHHH")
_FARTHEST: Final = 0x3FFF

_NAMES_IN_DATA: Final = {2: (0, 1), 5: (0, 1), 6: (0, 2), 12: (0, 1), 15: (2, 1), 18: (2, 1), 33: (6, 1)}
"""Types whose data may hold compressed names (RFC 3597, section 4) -> bytes before them, and how many there are."""


class Chase(NamedTuple):
    """The client's query, and the `links` CNAME records from its name to the target, whose name they end with."""

    query: Query
    records: bytes
    links: int

    def complete(self, packet: bytes, reply: bytes, target: Query, limit: int) -> bytes:
        """Return the reply to the client's `packet`, given the finished `reply` to the question for the target."""
        return _spliced(self, packet, reply, target, limit) or error(packet, SERVFAIL, self.query.edns, self.query.end)


def _spliced(chase: Chase, packet: bytes, reply: bytes, target: Query, limit: int) -> bytes | None:
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(reply)
    start = HEADER_BYTES + len(target.name) + QUESTION_TAIL_BYTES
    if questions != 1 or len(reply) < start:
        return None
    front = packet[HEADER_BYTES : chase.query.end] + chase.records
    name_at = HEADER_BYTES + len(front) - len(target.name)
    body = _moved(reply, start, answers + authorities + additional, name_at, HEADER_BYTES + len(front) - start)
    if body is None:
        return None
    header = _HEADER.pack(ident, flags, 1, answers + chase.links, authorities, additional)
    return truncate(header + front + body, limit)


def _moved(reply: bytes, start: int, records: int, name_at: int, shift: int) -> bytes | None:
    """Return what follows the question, pointers mended; None when a record is malformed or a pointer too far."""
    message = bytearray(reply)
    at = start
    for _ in range(records):
        at = _move_name(message, at, start, name_at, shift)
        if at < 0 or at + RECORD.size > len(message):
            return None
        rtype, _, _, length = RECORD.unpack_from(message, at)
        at += RECORD.size
        end = at + length
        if end > len(message):
            return None
        before, names = _NAMES_IN_DATA.get(rtype, (0, 0))
        at += before
        for _ in range(names):
            at = _move_name(message, at, start, name_at, shift)
            if not 0 <= at <= end:
                return None
        at = end
    return bytes(message[start:at])


def _move_name(message: bytearray, at: int, start: int, name_at: int, shift: int) -> int:
    """Mend the pointer that the name at `at` ends in, if it does; return the offset past the name, or -1."""
    most = min(len(message) - 1, at + NAME_BYTES)
    while at < most:
        length = message[at]
        if length >= POINTER:
            offset = (length & 0x3F) << 8 | message[at + 1]
            offset += name_at - HEADER_BYTES if offset < start else shift
            if offset > _FARTHEST:
                return -1
            message[at : at + 2] = (POINTER << 8 | offset).to_bytes(2, "big")
            return at + 2
        if length > LABEL_BYTES:
            return -1
        at += length + 1
        if not length:
            return at
    return at + 1 if at == len(message) - 1 and not message[at] else -1
