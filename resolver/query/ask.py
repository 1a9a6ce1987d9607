"""From a client's query to the question that upstreams are asked, and to the key that answers are kept under.

What a client and we say to each other alone (COOKIE, KEEPALIVE, PADDING, the size of its buffer) goes no further. AD is
always set, so that one answer serves clients that want to know of it and those that do not (RFC 6840, section 5.7).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.query.cache import CHECKING_DISABLED, DNSSEC_OK, Key, cache_key
from meshdns.resolver.query.exchange import Question
from meshdns.resolver.query.reply import AD, OPCODE, passed_on
from meshdns.resolver.query.wire import (
    HEADER_BYTES,
    OPT_BYTES,
    OUR_EDNS_BYTES,
    QUESTION_TAIL_BYTES,
    STREAM_MOST_BYTES,
    opt_record,
)

RD: Final = 0x0100
CD: Final = 0x0010

_TXT_IN: Final = b"\0\x10\0\1"
_HEAD: Final = Struct("!HHHHH")
_ADDITIONAL: Final = (b"\0\0", b"\0\1")  # ARCOUNT of a query without and with an OPT record
_PLAIN_OPT: Final = (opt_record(0, dnssec_ok=False), opt_record(0, dnssec_ok=True))
_ORDINARY: Final = tuple(
    (_HEAD.pack(RD | AD | (CD if bits & CHECKING_DISABLED else 0), 1, 0, 0, 1), _PLAIN_OPT[bool(bits & DNSSEC_OK)])
    for bits in range((CHECKING_DISABLED | DNSSEC_OK) + 1)
)
"""What stands before and behind a question that has a key, by the key's bits."""


def key_of(forward: Forward) -> Key | None:
    """Return what the answer is kept and shared under; None for a query whose answer is its own alone.

    That is one with options that change the answer (such as a client subnet), one without RD, one that is signed, and
    one of another class.
    """
    query = forward.query
    edns = query.edns
    if forward.whole or not query.flags & RD or forward.packet[10:12] != _ADDITIONAL[edns is not None]:
        return None
    bits = query.flags >> 4 & CHECKING_DISABLED
    if edns is not None:
        if edns.options and passed_on(edns.options):
            return None
        if edns.dnssec_ok:
            bits |= DNSSEC_OK
    return cache_key(query.key, forward.packet[query.end - QUESTION_TAIL_BYTES : query.end], bits)


def question_of(forward: Forward, key: Key | None) -> Question:
    """Return the question to ask upstream; `key` is what `key_of` says of it."""
    packet, query = forward.packet, forward.query
    if key is not None:
        kind = packet[query.end - QUESTION_TAIL_BYTES : query.end]
        return Question(query.key, kind, ordinary_message(packet, query.end, key), OPT_BYTES)
    if is_raw(forward):
        stream = forward.limit == STREAM_MOST_BYTES or len(packet) > OUR_EDNS_BYTES
        return Question(b"", b"", packet[2:], stream=stream, raw=True)
    edns = query.edns
    if edns is None:
        opt = _PLAIN_OPT[0]
    elif not edns.options:
        opt = _PLAIN_OPT[edns.dnssec_ok]
    else:
        opt = opt_record(0, dnssec_ok=edns.dnssec_ok, options=passed_on(edns.options))
    message = _HEAD.pack(query.flags & (RD | CD) | AD, 1, 0, 0, 1) + packet[HEADER_BYTES : query.end] + opt
    return Question(query.key, packet[query.end - QUESTION_TAIL_BYTES : query.end], message, len(opt))


def ordinary_message(packet: bytes, end: int, key: Key) -> bytes:
    """Return what to ask upstream, without its id, for a query that has a key: its question, to `end`, and two bits."""
    head, opt = _ORDINARY[key[-1]]
    return head + packet[HEADER_BYTES:end] + opt


def loop_question(name: bytes) -> Question:
    """Return a question for `name` (wire form) whose reply, whatever it says, settles it."""
    return Question(name, _TXT_IN, _HEAD.pack(RD, 1, 0, 0, 0) + name + _TXT_IN, raw=True)


def is_raw(forward: Forward) -> bool:
    """Whether the packet is passed on as it is: no QUERY, or signed (a record besides OPT, such as TSIG)."""
    signed = forward.packet[10:12] != _ADDITIONAL[forward.query.edns is not None]
    return signed or bool(forward.query.flags & OPCODE)
