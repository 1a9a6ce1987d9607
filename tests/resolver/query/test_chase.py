"""ExternalName: what an upstream says of the target becomes the answer to the client's question."""

from __future__ import annotations

from functools import cache

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import WORLD, answer, service, table_of

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.table.build import Table


@cache
def world() -> Table:
    return table_of(*WORLD)


def chased(name: str, qtype: str = "A", *, use_edns: int = -1) -> tuple[bytes, Forward]:
    """Return a client's packet and where it was sent to."""
    packet = dns.message.make_query(name, qtype, use_edns=use_edns, payload=4096).to_wire()
    decision = answer(world(), packet)
    assert isinstance(decision, Forward)
    return packet, decision


def upstream(forward: Forward, rcode: str = "NOERROR", *sections: list[str]) -> bytes:
    """Return an upstream's reply: records as text, compressed as dnspython does it."""
    reply = dns.message.make_response(dns.message.from_wire(forward.packet), recursion_available=True)
    reply.set_rcode(dns.rcode.from_text(rcode))
    for section, records in zip(reply.sections[1:], sections, strict=False):
        for record in records:
            owner, ttl, kind, data = record.split(maxsplit=3)
            section.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    return reply.to_wire()


REPLIES: dict[str, tuple[str, list[list[str]]]] = {
    "one address": ("A", [["www.example.org. 60 A 192.0.2.1"]]),
    "several": ("AAAA", [[f"www.example.org. 60 AAAA 2001:db8::{n}" for n in range(1, 6)]]),
    "a chain": (
        "A",
        [
            [
                "www.example.org. 60 CNAME cdn.example.org.",
                "cdn.example.org. 9 CNAME e.cdn.net.",
                "e.cdn.net. 9 A 192.0.2.1",
            ]
        ],
    ),
    "mail": (
        "MX",
        [["www.example.org. 60 MX 10 mx.example.org."], [], ["mx.example.org. 60 A 192.0.2.9"]],
    ),
    "nothing": ("AAAA", [[], ["example.org. 60 SOA ns.example.org. hostmaster.example.org. 1 2 3 4 5"]]),
    "text": ("TXT", [['www.example.org. 60 TXT "v=spf1 -all"']]),
    "services": ("SRV", [["www.example.org. 60 SRV 1 2 3 host.example.org."], ["example.org. 5 NS ns.example.org."]]),
}


@pytest.mark.parametrize("name", ["outside", "outside.default.svc.cluster.local", "OUTSIDE.default.cluster.local"])
@pytest.mark.parametrize(("qtype", "sections"), REPLIES.values(), ids=REPLIES.keys())
def test_complete(qtype: str, sections: list[list[str]], name: str) -> None:
    """The client's question comes back, our CNAME leads, and each record of the upstream follows unharmed."""
    packet, forward = chased(name, qtype, use_edns=0)
    assert dns.message.from_wire(forward.packet).question[0].to_text() == f"www.example.org. IN {qtype}"
    theirs = upstream(forward, "NOERROR", *sections)
    reply = dns.message.from_wire(forward.complete(packet, theirs), one_rr_per_rrset=True)
    expected = dns.message.from_wire(theirs, one_rr_per_rrset=True)
    assert dns.message.from_wire(packet).is_response(reply)
    assert reply.question[0].name.to_text() == f"{name}."
    assert reply.answer[0].to_text() == f"{name}. 30 IN CNAME www.example.org."
    assert [rrset.to_text() for rrset in reply.answer[1:]] == [rrset.to_text() for rrset in expected.answer]
    assert [rrset.to_text() for rrset in reply.authority] == [rrset.to_text() for rrset in expected.authority]
    assert [rrset.to_text() for rrset in reply.additional] == [rrset.to_text() for rrset in expected.additional]
    assert reply.edns == expected.edns


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "SERVFAIL", "REFUSED"])
def test_errors_come_back(rcode: str) -> None:
    """An upstream's RCODE is the client's."""
    packet, forward = chased("outside")
    reply = dns.message.from_wire(forward.complete(packet, upstream(forward, rcode)))
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert reply.question[0].name.to_text() == "outside."


def test_limit() -> None:
    """What no longer fits with our CNAME before it is truncated."""
    packet, forward = chased("outside.default.svc.cluster.local")
    theirs = upstream(forward, "NOERROR", [f"www.example.org. 60 A 192.0.2.{n}" for n in range(29)])
    assert len(theirs) <= forward.limit == 512
    reply = forward.complete(packet, theirs)
    assert len(reply) <= 512
    message = dns.message.from_wire(reply)
    assert message.flags & dns.flags.TC
    assert message.question[0].name.to_text() == "outside.default.svc.cluster.local."


def test_not_chased() -> None:
    """A reply to the client's own question is passed on as it is."""
    packet = dns.message.make_query("www.example.org", "A").to_wire()
    decision = answer(world(), packet)
    assert isinstance(decision, Forward)
    assert decision.complete(packet, b"whatever") == b"whatever"


def test_through_ours_to_theirs() -> None:
    """A chain of ExternalNames comes back link by link."""
    table = table_of(service("a", external_name="b.default.svc.cluster.local"), service("b", external_name="www.test"))
    packet = dns.message.make_query("a", "A").to_wire()
    decision = answer(table, packet)
    assert isinstance(decision, Forward)
    reply = dns.message.from_wire(
        decision.complete(packet, upstream(decision, "NOERROR", ["www.test. 60 A 192.0.2.1"]))
    )
    assert [rrset.to_text() for rrset in reply.answer] == [
        "a. 30 IN CNAME b.default.svc.cluster.local.",
        "b.default.svc.cluster.local. 30 IN CNAME www.test.",
        "www.test. 60 IN A 192.0.2.1",
    ]


@given(damage=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6), cut=st.integers(0, 300))
@settings(max_examples=500, deadline=None)
def test_any_reply(damage: list[tuple[int, int]], cut: int) -> None:
    """Whatever an upstream's reply is, the client gets a message within its limit that says whose question it was."""
    packet, forward = chased("outside", "MX")
    theirs = bytearray(upstream(forward, "NOERROR", *REPLIES["mail"][1]))
    for at, byte in damage:
        theirs[12 + at % (len(theirs) - 12)] = byte
    reply = forward.complete(packet, bytes(theirs[: max(len(theirs) - cut, 12)]))
    assert 12 <= len(reply) <= 512
    assert reply[2] & 0x80
