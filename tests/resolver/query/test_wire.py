"""Odd packets: what is dropped, refused, forwarded whole, or understood all the same."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from tables import WORLD, answer, entry, table_of

from meshdns.resolver.query import wire
from meshdns.resolver.query.answer import Drop, Forward
from meshdns.resolver.query.wire import Query
from meshdns.resolver.table.build import Table

NAME = b"\x07address\x08internal\x00"
A_IN = b"\0\1\0\1"
OPT = b"\0\0\x29\x10\x00\0\0\0\0\0\0"
OPT_VERSION_1 = b"\0\0\x29\x10\x00\0\1\0\0\0\0"
OPT_COOKIE = b"\0\0\x29\x10\x00\0\0\0\0\0\x0c\0\x0a\0\x08abcdefgh"
OPT_ELSEWHERE = b"\1x\0\0\x29\x10\x00\0\0\0\0\0\0"
OPT_CUT = b"\0\0\x29\x10\x00\0\0\0\0\0\x20"
TSIG = b"\1k\0\0\xfa\0\xff\0\0\0\0\0\2ab"


def packet(body: bytes, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    """Return a message with id 0x1234."""
    return struct.pack("!HHHHHH", 0x1234, flags, *counts) + body


def query(
    extra: bytes = b"", additional: int = 0, *, name: bytes = NAME, kind: bytes = A_IN, flags: int = 0x0100
) -> bytes:
    """Return a query with `additional` records in `extra`."""
    return packet(name + kind + extra, flags, (1, 0, 0, additional))


@cache
def world() -> Table:
    return table_of(*WORLD)


LONGEST = b"\x3f" + b"a" * 63
NAME_255 = LONGEST * 3 + b"\x3d" + b"a" * 61 + b"\0"
NAME_256 = LONGEST * 3 + b"\x3e" + b"a" * 62 + b"\0"

REFUSED = {
    "nothing but a header": (packet(b"", counts=(0, 0, 0, 0)), "FORMERR"),
    "no question but an OPT": (packet(OPT, counts=(0, 0, 0, 1)), "FORMERR OPT"),
    "two questions": (packet((NAME + A_IN) * 2, counts=(2, 0, 0, 0)), "FORMERR"),
    "two questions and an OPT": (packet((NAME + A_IN) * 2 + OPT, counts=(2, 0, 0, 1)), "FORMERR OPT"),
    "65,535 questions": (packet(NAME + A_IN, counts=(65535, 0, 0, 0)), "FORMERR"),
    "an answer": (packet(NAME + A_IN + NAME + A_IN + bytes(6), counts=(1, 1, 0, 0)), "FORMERR"),
    "an answer and an OPT": (packet(NAME + A_IN + NAME + A_IN + bytes(6) + OPT, counts=(1, 1, 0, 1)), "FORMERR OPT"),
    "an authority": (packet(NAME + A_IN + NAME + A_IN + bytes(6), counts=(1, 0, 1, 0)), "FORMERR"),
    "a name that points to itself": (query(name=b"\xc0\x0c"), "FORMERR"),
    "a compressed name and an OPT": (query(OPT, 1, name=b"\xc0\x0c"), "FORMERR OPT"),
    "a name that points forward": (query(name=b"\xc0\x20"), "FORMERR"),
    "a label and a pointer": (query(name=b"\1a\xc0\x0c"), "FORMERR"),
    "a label of 64 bytes": (query(name=b"\x40" + b"a" * 64 + b"\0"), "FORMERR"),
    "a label of type 0x80": (query(name=b"\x80a\0"), "FORMERR"),
    "a name of 256 bytes": (query(name=NAME_256), "FORMERR"),
    "a name without an end": (packet(b"\7address"), "FORMERR"),
    "a name cut in a label": (packet(b"\7addr"), "FORMERR"),
    "no type": (packet(NAME), "FORMERR"),
    "half a type": (packet(NAME + b"\0"), "FORMERR"),
    "no class": (packet(NAME + b"\0\1"), "FORMERR"),
    "half a class": (packet(NAME + b"\0\1\0"), "FORMERR"),
    "a second OPT": (query(OPT + OPT, 2), "FORMERR OPT"),
    "an OPT not at the root": (query(OPT_ELSEWHERE, 1), "FORMERR"),
    "an OPT that is announced only": (query(b"", 1), "FORMERR"),
    "an OPT cut short": (query(OPT[:-1], 1), "FORMERR"),
    "an OPT whose data is cut": (query(OPT_CUT, 1), "FORMERR"),
    "an OPT, then a cut record": (query(OPT + TSIG[:-1], 2), "FORMERR OPT"),
    "17 additional records": (query(TSIG * 17, 17), "FORMERR"),
    "EDNS version 1": (query(OPT_VERSION_1, 1), "BADVERS OPT"),
    "EDNS version 1, not ours": (query(OPT_VERSION_1, 1, name=b"\3www\0"), "BADVERS OPT"),
}


def described(reply: object) -> str:
    """Return an error reply as the rows write it."""
    assert isinstance(reply, bytes), reply
    message = dns.message.from_wire(reply)
    assert message.id == 0x1234
    assert message.flags & dns.flags.QR
    assert message.flags & dns.flags.RA
    assert not message.flags & dns.flags.AA
    assert not any(message.sections[1:])
    return dns.rcode.to_text(message.rcode()) + (" OPT" if message.edns >= 0 else "")


@pytest.mark.parametrize(("sent", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(sent: bytes, expected: str) -> None:
    """FORMERR is a header alone, with our OPT if the query's could be read; a higher EDNS version gets BADVERS."""
    for stream in (False, True):
        reply = answer(world(), sent, stream=stream)
        assert described(reply) == expected
        assert isinstance(reply, bytes)
        if expected.startswith("FORMERR"):
            assert len(reply) == (23 if "OPT" in expected else 12)


ANSWERED = {
    "plain": query(),
    "RD clear": query(flags=0),
    "AD set": query(flags=0x0120),
    "TC, AA, RA and Z set": query(flags=0x07C0),
    "bytes after the message": query(b"trailing", 0),
    "an OPT": query(OPT, 1),
    "an OPT with DO": query(b"\0\0\x29\x10\x00\0\0\x80\0\0\0", 1),
    "an OPT of an odd size": query(b"\0\0\x29\x04\xd3\0\0\0\0\0\0", 1),
    "an OPT of size 0": query(b"\0\0\x29\0\0\0\0\0\0\0\0", 1),
    "an OPT with a cookie": query(OPT_COOKIE, 1),
    "bytes after the OPT": query(OPT + b"trailing", 1),
    "an OPT nobody announced": query(OPT, 0),
    "a TSIG": query(TSIG, 1),
    "an OPT and a TSIG": query(OPT + TSIG, 2),
    "a TSIG and an OPT": query(TSIG + OPT, 2),
    "a compressed owner behind the question": query(b"\xc0\x0c\0\xfa\0\xff\0\0\0\0\0\0", 1),
    "as large as a datagram": query(bytes(65535 - 33)),
}


@pytest.mark.parametrize("sent", ANSWERED.values(), ids=ANSWERED.keys())
def test_answered(sent: bytes) -> None:
    """What can be understood is answered; an OPT comes back exactly when one was announced and sent."""
    reply = answer(world(), sent)
    assert isinstance(reply, bytes)
    message = dns.message.from_wire(reply)
    assert message.answer[0][0].to_text() == "198.51.100.0"
    announced = sent[11] > 0 and (b"\0\0\x29" in sent[33:])
    assert (message.edns >= 0) is announced
    assert not message.flags & (dns.flags.TC | dns.flags.AD | 0x40)


DROPPED: dict[str, tuple[bytes, Drop]] = {
    "nothing": (b"", Drop.SHORT),
    "one byte": (b"\0", Drop.SHORT),
    "eleven bytes": (query()[:11], Drop.SHORT),
    "a response": (query(flags=0x8180), Drop.RESPONSE),
    "a response that is garbage": (b"\0\0\xff\xff" + bytes(8), Drop.RESPONSE),
    "a response with an opcode": (packet(b"", 0xA800), Drop.RESPONSE),
}


@pytest.mark.parametrize(("sent", "why"), DROPPED.values(), ids=DROPPED.keys())
def test_dropped(sent: bytes, why: Drop) -> None:
    """What is shorter than a header, and what says it is a response, gets no reply."""
    assert answer(world(), sent) is why


@pytest.mark.parametrize("opcode", [1, 2, 3, 4, 5, 6, 15])
@pytest.mark.parametrize("body", [b"", NAME + A_IN, b"\xff" * 30])
def test_other_opcodes(opcode: int, body: bytes) -> None:
    """An opcode other than QUERY is forwarded as it is, whatever it holds."""
    sent = packet(body, opcode << 11)
    decision = answer(world(), sent)
    assert isinstance(decision, Forward)
    assert decision.packet == sent
    assert decision.whole
    assert decision.limit == 512
    assert decision.query == Query(0x1234, opcode << 11, b"", b"", 0, 0, None, 12)


@pytest.mark.parametrize("qclass", [0, 2, 3, 4, 254, 255, 65535])
def test_other_classes(qclass: int) -> None:
    """A class other than IN is forwarded as it is, also for names of ours."""
    sent = query(kind=b"\0\1" + qclass.to_bytes(2, "big"))
    decision = answer(world(), sent)
    assert isinstance(decision, Forward)
    assert decision.packet == sent
    assert decision.whole
    assert decision.query.qclass == qclass


def test_query() -> None:
    """A forwarded query comes with all that was read of it."""
    sent = query(OPT_COOKIE, 1, name=b"\3WwW\4test\0", flags=0x0110)
    decision = answer(world(), sent)
    assert isinstance(decision, Forward)
    assert not decision.whole
    assert decision.chase is None
    assert decision.limit == 4096
    edns = wire.Edns(4096, 0, dnssec_ok=False, options=b"\0\x0a\0\x08abcdefgh", start=26, end=len(sent))
    assert decision.query == Query(0x1234, 0x0110, b"\3WwW\4test\0", b"\3www\4test\0", 1, 1, edns, 26, (0, 4))


@pytest.mark.parametrize(
    "name",
    [b"\0", NAME_255, b"\1a" * 127 + b"\0", b"\3a\0b\4test\0", b"\3a.b\0", bytes([5, *b"\xff\xfe\x80 \\", 0])],
    ids=["root", "255 bytes", "127 labels", "zero in a label", "dot in a label", "bytes of any value"],
)
def test_names_of_all_kinds_are_forwarded(name: bytes) -> None:
    """Every well-formed name is forwarded as it came."""
    decision = answer(world(), query(name=name))
    assert isinstance(decision, Forward)
    assert decision.query.name == name
    assert decision.query.end == 12 + len(name) + 4


def test_a_dot_in_a_label_is_no_border() -> None:
    """The one label `address.internal` is another name than the two of ours."""
    assert isinstance(answer(world(), query(name=b"\x10address.internal\0")), Forward)
    assert isinstance(answer(world(), query(name=b"\x07address\x16internal\x07cluster\x05local\0")), Forward)


def test_a_suffix_inside_a_label_is_none() -> None:
    """Bytes that look like a search suffix count only from a label's border."""
    table = table_of(entry("x.test", "192.0.2.1"), search=("local",))
    assert isinstance(answer(table, query(name=b"\1x\4test\x05local\0")), bytes)
    inside = b"\1x\4test" + bytes([7, 97, 5]) + b"local\0"
    assert inside.endswith(b"\x05local\0")
    assert isinstance(answer(table, query(name=inside)), Forward)


LIMITS: dict[str, tuple[bytes, int]] = {
    "none": (b"", 512),
    "below the least": (b"\0\0\x29\x00\x10\0\0\0\0\0\0", 512),
    "1232": (b"\0\0\x29\x04\xd0\0\0\0\0\0\0", 1232),
    "4096": (OPT, 4096),
    "above the most": (b"\0\0\x29\xff\xff\0\0\0\0\0\0", 4096),
    "odd": (b"\0\0\x29\x03\x09\0\0\0\0\0\0", 777),
}


@pytest.mark.parametrize(("opt", "limit"), LIMITS.values(), ids=LIMITS.keys())
def test_truncation(opt: bytes, limit: int) -> None:
    """Over UDP an answer is whole within the client's limit, or empty with TC; over TCP it is always whole."""
    overhead = 12 + len(b"\4many\4test\0") + 4 + len(opt)
    fitting = (limit - overhead) // 16
    for count, fits in ((fitting, True), (fitting + 1, False)):
        table = table_of(entry("many.test", " ".join(f"10.0.{n >> 8}.{n & 255}" for n in range(count))))
        sent = query(opt, bool(opt), name=b"\4many\4test\0")
        reply = answer(table, sent)
        assert isinstance(reply, bytes)
        message = dns.message.from_wire(reply)
        assert len(reply) <= limit
        assert bool(message.flags & dns.flags.TC) is not fits
        assert (message.edns >= 0) is bool(opt)
        assert sum(len(rrset) for rrset in message.answer) == (count if fits else 0)
        whole = answer(table, sent, stream=True)
        assert isinstance(whole, bytes)
        assert sum(len(rrset) for rrset in dns.message.from_wire(whole).answer) == count


TOO_LARGE: dict[str, Callable[[], Table]] = {
    "suffix": lambda: table_of(entry("many.test", " ".join(f"10.0.0.{n}" for n in range(1, 60)))),
    "wildcard": lambda: table_of(entry("*.test", " ".join(f"10.0.0.{n}" for n in range(1, 60)))),
}


@pytest.mark.parametrize("make", TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_truncated_chains(make: Callable[[], Table]) -> None:
    """A CNAME whose addresses do not fit is not sent without them."""
    sent = query(name=b"\4many\4test\x07cluster\x05local\0")
    reply = answer(make(), sent)
    assert isinstance(reply, bytes)
    message = dns.message.from_wire(reply)
    assert message.flags & dns.flags.TC
    assert not message.answer


def test_srv_goes_without_its_addresses() -> None:
    """Additional records are left out before anything is truncated, and that is no truncation (RFC 2181, section 9)."""
    table = table_of(entry("many.test", " ".join(f"10.0.0.{n}" for n in range(1, 60))))
    sent = query(name=b"\5_http\4_tcp\4many\4test\0", kind=b"\0\x21\0\1")
    reply = answer(table, sent)
    assert isinstance(reply, bytes)
    message = dns.message.from_wire(reply)
    assert not message.flags & dns.flags.TC
    assert message.answer[0][0].to_text() == "0 0 80 many.test."
    assert not message.additional
    whole = answer(table, sent, stream=True)
    assert isinstance(whole, bytes)
    assert sum(len(rrset) for rrset in dns.message.from_wire(whole).additional) == 59


@pytest.mark.parametrize("edns", [-1, 0])
def test_truncate(edns: int) -> None:
    """A message over the limit keeps header, question and OPT, and says TC; one within it is left alone."""
    reply = dns.message.make_response(dns.message.make_query("www.test", "A", use_edns=edns))
    reply.answer.append(dns.rrset.from_text_list("www.test.", 30, "IN", "A", [f"192.0.2.{n}" for n in range(60)]))
    message = reply.to_wire()
    assert wire.truncate(message, len(message)) == message
    cut = dns.message.from_wire(wire.truncate(message, len(message) - 1))
    assert cut.flags == reply.flags | dns.flags.TC
    assert cut.question == reply.question
    assert not cut.answer
    assert cut.edns == edns
