"""Whatever an upstream says, forwarding goes on, and what a client is sent is a message within its limit."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.query.asking import Client
from meshdns.resolver.query.cache import Cache
from meshdns.resolver.query.effects import Answer, Effect, Send
from meshdns.resolver.query.exchange import Try
from meshdns.resolver.query.finish import Reason, fail, finish
from meshdns.resolver.query.forward import Forwarding
from meshdns.resolver.query.reply import Reply, passed_on, read, read_name
from meshdns.resolver.query.servers import Server, Servers, Upstream
from meshdns.resolver.query.wire import Query, parse

QUERY = dns.message.make_query("www.example", "A", use_edns=0, id=7).to_wire()
KEY, KIND = b"\x03www\x07example\0", b"\0\1\0\1"


def _reply(records: int, *, chain: bool, rcode: int) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(QUERY), recursion_available=True)
    reply.set_rcode(dns.rcode.Rcode(rcode))
    owner = "www.example."
    if chain:
        reply.answer.append(dns.rrset.from_text(owner, 60, "IN", "CNAME", "cdn.example."))
        owner = "cdn.example."
    if records:
        reply.answer.append(dns.rrset.from_text(owner, 60, "IN", "A", *[f"192.0.2.{n}" for n in range(records)]))
    reply.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", "ns.example. h.example. 1 2 3 4 5"))
    return reply.to_wire(max_size=65535)


REPLIES = st.sampled_from(
    [
        _reply(records, chain=chain, rcode=rcode)
        for records in (0, 1, 3, 40, 250)
        for chain in (False, True)
        for rcode in (0, 2, 3, 5, 16, 23)
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a reply with some bytes changed, cut, or something behind it."""
    message = bytearray(draw(REPLIES))
    for _ in range(draw(st.integers(0, 6))):
        message[draw(st.integers(0, len(message) - 1))] = draw(st.integers(0, 255))
    return bytes(message[: draw(st.integers(0, len(message)))]) + draw(st.binary(max_size=20))


ANYTHING = st.one_of(st.binary(max_size=200), damaged(), REPLIES)


def _forward(packet: bytes, limit: int) -> Forward:
    query = parse(packet)
    assert isinstance(query, Query)
    return Forward(packet, query, limit, whole=False)


def _submitted(limit: int) -> tuple[Forwarding, list[Try], list[bytes]]:
    servers = Servers(tuple(Server(Upstream(IPv4Address(f"192.0.2.{n}"))) for n in (1, 2)))
    forwarding = Forwarding(servers, Cache(100, 1 << 20, 60.0), lambda _name, _kind: None)
    given_out: list[bytes] = []
    effects = forwarding.submit(Client(_forward(QUERY, limit), "client", given_out.append, 0.0))
    return forwarding, _sent(effects, given_out), given_out


def _sent(effects: bytes | list[Effect], given_out: list[bytes]) -> list[Try]:
    assert isinstance(effects, list)
    for effect in effects:
        if isinstance(effect, Answer):
            effect.respond(effect.message)
    return [effect.attempt for effect in effects if isinstance(effect, Send)]


@given(st.lists(st.one_of(ANYTHING, st.none()), max_size=12), st.sampled_from([512, 1232, 4096, 65535]))
def test_any_replies_give_one_answer_within_the_limit(said: list[bytes | None], limit: int) -> None:
    """Whatever comes back, and when, the client gets exactly one well-formed reply, no longer than it may be."""
    forwarding, tries, given_out = _submitted(limit)
    now = 0.0
    for message in said:
        if message is None:
            now += 0.5
            tries += _sent(forwarding.wake(now), given_out)
        else:
            attempt = next((attempt for attempt in reversed(tries) if not attempt.over), None)
            if attempt is not None:
                tries += _sent(forwarding.heard(attempt, message, now), given_out)
    for moment in (0.5, 1.0, 1.5, 2.0, 5.0):
        tries += _sent(forwarding.wake(now + moment), given_out)
    assert len(given_out) == 1
    assert len(given_out[0]) <= limit
    assert given_out[0][:2] == QUERY[:2]
    assert given_out[0][12 : 12 + len(KEY) + 4] == KEY + KIND
    assert forwarding.in_flight == 0
    assert len(tries) <= 8  # each server twice, and once more over TCP when it truncates


@given(ANYTHING, st.sampled_from([512, 1232, 65535]))
def test_a_reply_that_is_read_is_passed_on_whole(message: bytes, limit: int) -> None:
    """What dnspython reads as a reply to the question comes out with the same records, or with TC."""
    reply = read(message, KEY, KIND)
    forward = _forward(QUERY, limit)
    if reply is None:
        return
    finished = finish(reply, QUERY, forward.query, limit)
    assert len(finished) <= limit
    with contextlib.suppress(dns.exception.DNSException, ValueError):
        before = dns.message.from_wire(message, ignore_trailing=True)
        after = dns.message.from_wire(finished)
        assert after.answer == before.answer or after.flags & 0x0200
        assert after.rcode() == before.rcode()


@given(st.integers(0, 60), st.booleans(), st.sampled_from([0, 3]))
def test_a_good_reply_is_read(records: int, chain: bool, rcode: int) -> None:  # noqa: FBT001 - hypothesis's argument
    """What dnspython writes is understood: the counts, the lifetime, the chain."""
    reply = read(_reply(records, chain=chain, rcode=rcode), KEY, KIND)
    assert reply is not None
    assert reply.counts[:2] == (records + chain, 1)
    assert reply.lifetime_s == (60 if records and rcode == 0 else 5)
    assert [alias.target for alias in reply.chain] == ([b"\x03cdn\x07example\0"] if chain else [])
    assert len(reply.ttls) == records + chain + 1


@given(st.binary(max_size=300), st.integers(0, 299))
def test_names_are_read_in_bounded_time(message: bytes, at: int) -> None:
    """A name that is read is at most 255 bytes; loops and what is cut give none."""
    try:
        name = read_name(message, at)
    except IndexError:
        return
    assert name is None or (0 < len(name) <= 255 and name.endswith(b"\0"))


def test_compression_loops_are_no_names() -> None:
    """Pointers to themselves, to each other and forward give no name."""
    for message in (b"\xc0\x00", b"\xc0\x02\xc0\x00", b"\x01a\xc0\x00", b"\xc0\x02\x00"):
        assert read_name(message, 0) is None


OPTIONS = st.lists(st.tuples(st.sampled_from([3, 8, 10, 11, 12, 15]), st.binary(max_size=20)), max_size=8)


def _options(options: list[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack("!HH", code, len(data)) + data for code, data in options)


@given(OPTIONS, st.integers(1, 3))
def test_hop_by_hop_options_go_no_further(options: list[tuple[int, bytes]], cut: int) -> None:
    """Whole options are passed on but for COOKIE, KEEPALIVE and PADDING; of malformed ones none is."""
    kept = [(code, data) for code, data in options if code not in {10, 11, 12}]
    assert passed_on(_options(options)) == _options(kept)
    assert passed_on(_options([*options, (8, b"abc")])[:-cut]) == b""


@given(st.text(), st.integers(0, 65535), st.integers(0, 23))
def test_reasons_fit_any_client(text: str, code: int, rcode: int) -> None:
    """An extended error of any text stays within 512 bytes and is UTF-8."""
    message = fail(rcode, QUERY, _forward(QUERY, 512).query, 512, Reason(code, text))
    assert len(message) <= 512
    read_back = dns.message.from_wire(message)
    assert read_back.rcode() == rcode
    assert text.encode().startswith((read_back.options[0].text or "").encode())


@given(st.integers(12, 600), st.integers(0, 60))
def test_what_does_not_fit_is_left_out_whole(limit: int, records: int) -> None:
    """Below its size a reply keeps its answer whole or says TC; it never holds a part of it."""
    reply = read(_reply(records, chain=False, rcode=0), KEY, KIND)
    assert isinstance(reply, Reply)
    message = finish(reply, QUERY, _forward(QUERY, 4096).query, max(limit, 60))
    answer = dns.message.from_wire(message)
    held = len(answer.answer[0]) if answer.answer else 0
    assert held in {0, records}
    assert held == records or answer.flags & 0x0200
