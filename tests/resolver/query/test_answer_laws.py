"""Laws of `decide`: it returns for any bytes, what it says is well-formed, and it is what a DNS library would say."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from statistics import median

import dns.flags
import dns.message
import dns.opcode
import dns.rdatatype
import dnslib
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tables import NAMESPACE_SEARCH, WORLD, answer, entry, table_of

from meshdns.resolver.query.answer import Drop, Forward, at_once, by_order
from meshdns.resolver.query.ask import key_of
from meshdns.resolver.query.cache import Cache
from meshdns.resolver.query.fastpath import FastPath
from meshdns.resolver.query.plain import Plain
from meshdns.resolver.query.servers import Servers
from meshdns.resolver.table.build import Table
from meshdns.resolver.table.names import label_starts, to_key, to_text

OURS = [row for row in table_of(*WORLD).rows if not row.unanswered]
DNSLIB_LABELS = st.sampled_from(
    b"_http _tcp x * wild example address internal default svc cluster local".split()
    + b"in-addr arpa ip6 240 1 0 probe meshdns invalid".split()
    + [b"A" * 63]
)
LABELS = DNSLIB_LABELS | st.sampled_from([b"\0", b"\xff", b"a.b"])
TYPES = st.sampled_from([1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 64, 65, 252, 255, 999])


@cache
def world() -> Table:
    return table_of(*WORLD)


@st.composite
def names(draw: st.DrawFn, labels: st.SearchStrategy[bytes] = LABELS) -> bytes:
    """Make names of ours, alone or with something before or behind, and names of pieces; in any spelling."""
    row = draw(st.sampled_from(OURS))
    before = b"".join(bytes((len(label),)) + label for label in draw(st.lists(labels, max_size=3)))
    suffix = draw(st.sampled_from(["", *NAMESPACE_SEARCH, "example.com"]))
    name = before + draw(st.sampled_from([row.key, *row.aliases]))[:-1] + (to_key(suffix) or b"")[:-1] + b"\0"
    swapped = draw(st.lists(st.integers(0, len(name) - 1), max_size=8))
    return bytes(ord(chr(b).swapcase()) if n in swapped and 0x40 < b < 0x7B else b for n, b in enumerate(name))


@st.composite
def queries(draw: st.DrawFn, labels: st.SearchStrategy[bytes] = LABELS) -> bytes:
    """Make queries that a client could send."""
    opt = draw(st.sampled_from([b"", b"\0\0\x29\x04\xd0\0\0\0\0\0\0", b"\0\0\x29\x02\0\0\0\x80\0\0\4\0\x0a\0\0"]))
    flags = draw(st.sampled_from([0, 0x0100, 0x0120, 0x0110, 0x0130]))
    header = struct.pack("!HHHHHH", draw(st.integers(0, 65535)), flags, 1, 0, 0, bool(opt))
    kind = draw(TYPES).to_bytes(2, "big") + draw(st.sampled_from([b"\0\1", b"\0\1", b"\0\3"]))
    return header + draw(names(labels)) + kind + opt


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Make queries with some bytes changed, cut or added."""
    packet = bytearray(draw(queries()))
    for _ in range(draw(st.integers(1, 4))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    return bytes(packet[: draw(st.integers(0, len(packet)))]) + draw(st.binary(max_size=8))


ANY_BYTES = st.one_of(
    st.binary(max_size=600), damaged(), st.binary(max_size=64).map(lambda body: b"\1\2\1\0\0\1" + bytes(6) + body)
)


@given(packet=ANY_BYTES, stream=st.booleans())
@example(packet=b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\0\0\1\0\1", stream=False)  # the root
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes(packet: bytes, stream: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Any bytes are dropped, forwarded as they came, or answered within the limit with what dnspython can read."""
    decision = answer(world(), packet, stream=stream)
    if isinstance(decision, Drop):
        assert len(packet) < 12 or packet[2] & 0x80
    elif isinstance(decision, Forward):
        assert decision.chase is not None or decision.packet == packet
        assert decision.query.id == int.from_bytes(packet[:2], "big")
    else:
        assert decision[:2] == packet[:2]
        assert decision[2] & 0x80
        assert len(decision) <= (65535 if stream else 4096)
        assert dns.message.from_wire(decision).opcode() == dns.opcode.QUERY


@given(queries(DNSLIB_LABELS))
@settings(max_examples=800, deadline=None)
def test_answers_are_what_dnslib_would_build(packet: bytes) -> None:
    """The records of a reply, packed by dnslib behind the same header and question, are the same message."""
    decision = answer(world(), packet, stream=True)
    if not isinstance(decision, bytes):
        return
    ours = dns.message.from_wire(decision, one_rr_per_rrset=True)
    theirs = dns.message.from_wire(_by_dnslib(packet, decision), one_rr_per_rrset=True)
    assert ours.flags == theirs.flags
    assert ours.question == theirs.question
    for mine, yours in zip(ours.sections[1:], theirs.sections[1:], strict=True):
        assert [rrset.to_text() for rrset in mine] == [rrset.to_text() for rrset in yours]
    assert (ours.edns, ours.ednsflags, ours.payload) == (theirs.edns, theirs.ednsflags, theirs.payload)


def _by_dnslib(packet: bytes, decision: bytes) -> bytes:
    """Build the reply with dnslib's own types and its own encoder."""
    message = dns.message.from_wire(decision, one_rr_per_rrset=True)
    asked = dnslib.DNSHeader.parse(dnslib.DNSBuffer(packet))
    header = dnslib.DNSHeader(id=asked.id, qr=1, aa=1, ra=1, rd=asked.rd, cd=asked.cd, rcode=message.rcode())
    if message.rcode() not in (0, 3):
        header.aa = 0
    end = decision.index(b"\0", 12) + 1
    record = dnslib.DNSRecord(header)
    buffer = dnslib.DNSBuffer(decision[: end + 4])
    buffer.offset = 12
    record.add_question(dnslib.DNSQuestion.parse(buffer))
    for add, section in (
        (record.add_answer, message.answer),
        (record.add_auth, message.authority),
        (record.add_ar, message.additional),
    ):
        for rrset in section:
            add(*dnslib.RR.fromZone(f"{rrset.name} {rrset.ttl} IN {dns.rdatatype.to_text(rrset.rdtype)} {rrset[0]}"))
    if message.edns >= 0:
        record.add_ar(dnslib.EDNS0(udp_len=1232, flags="do" if message.ednsflags else "", version=0))
    return bytes(record.pack())


PLAIN = ("address.internal", "auto.internal", "many.internal", "web.default.svc.cluster.local", "web")


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("qtype", ["A", "AAAA", "HTTPS"])
@pytest.mark.parametrize("edns", [False, True], ids=["plain", "edns"])
def test_plain_answers_are_dnslibs_bytes(name: str, qtype: str, edns: bool) -> None:  # noqa: FBT001 - a parameter
    """A plain reply is what dnslib packs, byte for byte."""
    query = dnslib.DNSRecord.question(name, qtype)
    if edns:
        query.add_ar(dnslib.EDNS0(udp_len=1232))
    packet = bytes(query.pack())
    decision = answer(world(), packet)
    assert isinstance(decision, bytes)
    assert decision == _by_dnslib(packet, decision)


@given(names())
@settings(max_examples=300, deadline=None)
def test_names_survive_their_text(name: bytes) -> None:
    """A key of ordinary bytes is the key of its text, and its labels add up to it."""
    key = name.lower()
    if len(key) <= 255:
        starts = label_starts(key)
        assert sum(key[start] + 1 for start in starts) + 1 == len(key)
        if all(0x20 < byte < 0x7F and byte not in b'."\\;()@$' for byte in key if byte > 63):
            assert to_text(key).count(".") >= len(starts) - 1


def _cost_s(table: Table, packet: bytes, rounds: int) -> float:
    """Return processor time per packet."""
    begun = time.process_time()
    for _ in range(rounds):
        answer(table, packet)
    return (time.process_time() - begun) / rounds


def _query(name: bytes, counts: tuple[int, int, int, int] = (1, 0, 0, 0), extra: bytes = b"") -> bytes:
    return (struct.pack("!HHHHHH", 1, 0x0100, *counts) + name + b"\0\1\0\1" + extra)[:512]


SUFFIX = b"\x07default\x03svc\x07cluster\x05local\0"
WORST: dict[str, bytes] = {
    "127 labels": _query(b"\1a" * 127 + b"\0"),
    "127 labels of zeros": _query(b"\1\0" * 127 + b"\0"),
    "many labels and a suffix": _query(b"\1a" * 113 + SUFFIX),
    "a service of many labels": _query(b"\2_a\2_b" + b"\1a" * 109 + SUFFIX),
    "many labels under in-addr.arpa": _query(b"\1a" * 119 + b"\x07in-addr\4arpa\0"),
    "many labels under ip6.arpa": _query(b"\1a" * 121 + b"\3ip6\4arpa\0"),
    "the deepest wildcard": _query(b"\1a" * 114 + b"\4deep\4wild\7example\0"),
    "sixteen records": _query(b"\1a\0", (1, 0, 0, 16), b"\0\0\1\0\1\0\0\0\0\0\0" * 16),
    "long owners": _query(b"\1a\0", (1, 0, 0, 2), (b"\1a" * 110 + b"\0\0\1\0\1\0\0\0\0\0\0") * 2),
    "a hundred questions": _query(b"\1a\0", (100, 0, 0, 1), b"\1a\0\0\1\0\1" * 70),
    "questions of many labels": _query(b"\1a" * 120 + b"\0", (100, 0, 0, 1), (b"\1a" * 120 + b"\0\0\1\0\1")),
    "many records of every section": _query(b"\1a\0", (1, 99, 99, 99), b"\0\0\1\0\1\0\0\0\0\0\0" * 40),
    "pointers": _query(b"\xc0\x0c", (99, 99, 99, 99), b"\xc0\x0c" * 240),
    "nothing but ones": b"\1\1\1" + b"\1" * 509,
}


@pytest.mark.no_cover  # tracing lines costs the long way more than the short one
@pytest.mark.parametrize("packet", WORST.values(), ids=WORST.keys())
def test_cost_of_the_worst_packet(packet: bytes) -> None:
    """Deciding on any packet of 512 bytes costs at most 20 times what a plain query costs."""
    table = table_of(*WORLD)
    plain = _query(b"\7address\x08internal\0")
    ratios = [_cost_s(table, packet, 300) / _cost_s(table, plain, 3000) for _ in range(7)]
    assert median(ratios) <= 20


def test_cost_grows_not_with_the_table() -> None:
    """A query costs the same whatever the number of names, but for the processor's caches."""
    small, large = (table_of(*[entry(f"h{n}.test", "192.0.2.1") for n in range(count)]) for count in (10, 5000))
    packet = _query(b"\2h7\4test\0")
    assert median([_cost_s(large, packet, 2000) / _cost_s(small, packet, 2000) for _ in range(7)]) <= 2


GUARDS: dict[str, Callable[[bytes], bytes]] = {
    "another id": lambda reply: b"\xff\xff" + reply[2:],
    "no answer": lambda reply: reply[:6] + b"\0\0" + reply[8:],
    "another address": lambda reply: reply[:-1] + b"\x7f",
}


@pytest.mark.parametrize("damage", GUARDS.values(), ids=GUARDS.keys())
def test_the_comparison_sees_damage(damage: Callable[[bytes], bytes]) -> None:
    """The comparison with dnslib fails when the reply is not what it should be."""
    packet = bytes(dnslib.DNSRecord.question("address.internal", "A").pack())
    decision = answer(world(), packet)
    assert isinstance(decision, bytes)
    assert damage(decision) != _by_dnslib(packet, decision)


@given(queries(), st.booleans())
def test_what_is_answered_at_once_is_what_the_order_says(packet: bytes, stream: bool) -> None:  # noqa: FBT001 - hypothesis's argument
    """The quick way answers as the documented order does, but for the order of the addresses."""
    quick = at_once(packet, world(), Counter(), stream)
    slow = by_order(packet, world(), Counter(), stream=stream)
    if quick is not None:
        assert isinstance(slow, bytes)
        assert len(quick) == len(slow)
        assert dns.message.from_wire(quick) == dns.message.from_wire(slow)


def test_plain_queries_are_answered_at_once() -> None:
    """The law above is not empty: what nearly every query is takes the quick way, and a name of others does not."""
    for name, qtype, quick in (
        ("address.internal", "A", True),
        ("address.internal", "HTTPS", True),
        ("address.internal.default.svc.cluster.local", "A", True),
        ("address.internal", "MX", False),
        ("www.example.com", "A", False),
    ):
        packet = dns.message.make_query(name, qtype).to_wire()
        assert (at_once(packet, world(), Counter()) is not None) == quick, (name, qtype)


def _plain(packet: bytes) -> Plain | None:
    found = FastPath(Servers(), Cache(1, 1, 0.0), lambda _name, _kind: None).look(packet, world(), 0.0)
    assert not isinstance(found, bytes)
    return found


@given(st.one_of(queries(), ANY_BYTES))
@settings(max_examples=500, deadline=None)
def test_what_is_plain_is_what_the_order_forwards(packet: bytes) -> None:
    """A packet that is taken for a plain query is forwarded by the documented order too, under the same key."""
    plain = _plain(packet)
    if plain is not None and at_once(packet, world(), Counter()) is None:
        forward = by_order(packet, world(), Counter())
        assert plain.forward() == forward
        assert isinstance(forward, Forward)
        assert key_of(forward) == plain.key


def test_plain_queries_of_others_are_plain() -> None:
    """The law above is not empty: a common query for a name of others is plain, whatever else is not."""
    for name, qtype, plain in (
        ("www.example.com", "A", True),
        ("WWW.example.com", "MX", True),
        ("address.internal", "MX", False),
        ("x.wild.example", "A", False),
        ("1.0.240.240.in-addr.arpa", "PTR", False),
        ("0.probe.meshdns.invalid", "A", False),
    ):
        for edns in (-1, 0):
            assert (_plain(dns.message.make_query(name, qtype, use_edns=edns).to_wire()) is not None) == plain, name
    good = _query(b"\3www\7example\0")
    assert _plain(good) is not None
    for packet in (
        good[:2] + b"\0" + good[3:],  # without RD
        good[:2] + b"\x29" + good[3:],  # an UPDATE
        good[:-1] + b"\3",  # of class CH
        good[:-1],
        good[:12] + b"\x04www\7example\0\0\1\0\1",  # a label too long
        good[:12] + b"\4www\0\7example\0\0\1\0\1",  # a zero within a label
        good[:12] + b"\x3fa" * 5 + b"\0\0\1\0\1",
    ):
        assert _plain(packet) is None, packet
