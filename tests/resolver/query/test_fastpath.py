"""The fast path does what the ordinary one does: the same events leave two state machines in the same state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tables import WORLD, table_of

from meshdns.resolver.query.answer import Forward, decide
from meshdns.resolver.query.asking import Client
from meshdns.resolver.query.cache import Cache
from meshdns.resolver.query.complete import finder
from meshdns.resolver.query.effects import Answer, CheckLoop, Effect, Forget, Send
from meshdns.resolver.query.exchange import Loss, Try
from meshdns.resolver.query.fastpath import FastPath
from meshdns.resolver.query.plain import Plain
from meshdns.resolver.query.servers import Server, Servers, Upstream

TABLE = table_of(*WORLD)
PLACES = 16
"""A client may hold four, and with as many in flight nothing is plain any more."""


@dataclass
class Side:
    """A state machine with all that came out of it. `fast`: what may go by the fast path does."""

    fast: bool
    now: float = 100.0
    given: list[tuple[int, bytes]] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    plain: int = 0

    def __post_init__(self) -> None:
        """Ask two servers."""
        self.servers = tuple(Server(Upstream(IPv4Address(f"192.0.2.{n}"))) for n in (1, 2))
        kept = Cache(4, 1 << 20, 60.0)
        self.forwarding = FastPath(Servers(self.servers), kept, finder(lambda: TABLE), PLACES)

    def ask(self, client: int, packet: bytes) -> None:
        """Take a query as a listener does."""
        found = self.forwarding.look(packet, TABLE, self.now)
        if isinstance(found, bytes):
            self.given.append((client, found))
            return
        if isinstance(found, Plain) and self.fast:
            found.who, found.send = client, lambda who, reply: self.given.append((who, reply))
            if self.forwarding.ask(found):
                self.plain += 1
                self.tries.append(found)
                return
        forward = decide(packet, TABLE, {})
        assert isinstance(forward, Forward)
        outcome = self.forwarding.submit(
            Client(forward, client, lambda reply: self.given.append((client, reply)), self.now)
        )
        if isinstance(outcome, bytes):
            self.given.append((client, outcome))
        else:
            self.take(outcome)

    def hear(self, number: int, message: bytes) -> None:
        """Have a message come for a try that listens."""
        attempt = self.listening(number)
        if attempt is None:
            return
        if isinstance(attempt, Plain):
            answer = self.forwarding.answer(attempt, message)
            if answer is not None:
                attempt.respond(answer)
                self.forwarding.settled(attempt, self.now)
                return
        self.take(self.forwarding.heard(attempt, message, self.now))

    def lose(self, number: int, loss: Loss) -> None:
        """Have a try that listens end."""
        attempt = self.listening(number)
        if attempt is not None:
            self.take(self.forwarding.lost(attempt, loss, self.now))

    def passes(self, seconds: float) -> None:
        """Let time pass, and do what is due when it is due."""
        end = self.now + seconds
        while self.forwarding.wake_s <= end:
            self.now = max(self.now, self.forwarding.wake_s)
            self.take(self.forwarding.wake(self.now))
        self.now = end

    def take(self, effects: list[Effect]) -> None:
        """Carry effects out."""
        for effect in effects:
            if isinstance(effect, Send):
                self.tries.append(effect.attempt)
            elif isinstance(effect, Answer):
                effect.respond(effect.message)
            elif isinstance(effect, Forget):
                effect.attempt.over = True
            else:
                self.others.append((type(effect).__name__, effect.server.name))
                if isinstance(effect, CheckLoop):
                    self.check(effect.server)

    def check(self, server: Server) -> None:
        """Ask the server for a name that nobody else knows."""
        self.take(self.forwarding.check_loop(server, b"\x01%d\x04loop\0" % self.servers.index(server), self.now))

    def seen(self) -> dict[str, Any]:
        """Return all that can be told from outside."""
        forwarding = self.forwarding
        return {
            "given": sorted(self.given),
            "tries": sorted((*_order(attempt), attempt.over, attempt.failed) for attempt in self.tries),
            "others": sorted(self.others),
            "counters": forwarding.counters,
            "cache": (forwarding.cache.counters, len(forwarding.cache), forwarding.cache.size_bytes),
            "in flight": forwarding.in_flight,
            "servers": [
                (server.attempts, server.failures, server.failures_in_a_row, server.round_trip_s, server.loops_until_s)
                for server in self.servers
            ],
        }

    def listening(self, number: int) -> Try | None:
        """Return one of the tries that listen."""
        listening = sorted((attempt for attempt in self.tries if not attempt.over), key=_order)
        return listening[number % len(listening)] if listening else None


def _order(attempt: Try) -> tuple[bytes, str, bool, float, float]:
    """Tell tries apart without the order of those that are made at the same moment, which nothing depends on."""
    started_s = attempt.exchange.started_s if attempt.exchange else attempt.sent_s
    return attempt.message, attempt.server.name, attempt.stream, attempt.sent_s, started_s


NAMES = ["one.example", "TWO.example", "three.example"]


def _query(name: str, *, edns: int = 0, dnssec_ok: bool = False, flags: str = "RD", qtype: str = "A") -> bytes:
    query = dns.message.make_query(
        name, qtype, use_edns=0 if edns else -1, payload=edns, want_dnssec=dnssec_ok, id=len(name)
    )
    query.flags = dns.flags.from_text(flags)
    return query.to_wire()


QUERIES = [
    _query(name, edns=edns, dnssec_ok=dnssec_ok, flags=flags)
    for name in NAMES
    for edns, dnssec_ok in ((0, False), (512, False), (1232, False), (1232, True))
    for flags in ("RD", "RD AD", "RD CD")
] + [_query(NAMES[0], flags="AD"), _query(NAMES[0], qtype="MX"), _query("alone.example", qtype="TXT")]

CHECKS = [_query(f"{n}.loop", qtype="TXT") for n in (0, 1)]

SAID: dict[str, Callable[[dns.message.Message], object]] = {
    "an answer": lambda reply: _answer(reply, "A", "192.0.2.9"),
    "no answer": lambda _: None,
    "a denial": lambda reply: reply.set_rcode(dns.rcode.NXDOMAIN),
    "SERVFAIL": lambda reply: reply.set_rcode(dns.rcode.SERVFAIL),
    "BADVERS": lambda reply: reply.set_rcode(dns.rcode.BADVERS),
    "a cut answer": lambda reply: setattr(reply, "flags", reply.flags | dns.flags.TC),
    "an authentic answer": lambda reply: setattr(reply, "flags", reply.flags | dns.flags.AD),
    "an alias": lambda reply: _answer(reply, "CNAME", "cdn.example."),
    "an alias of ours": lambda reply: _answer(reply, "CNAME", "address.internal."),
    "more than 512 bytes": lambda reply: _answer(reply, "A", *[f"192.0.2.{n}" for n in range(60)]),
    "an option": lambda reply: reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.STALE_ANSWER, "old")]),
    "another question": lambda reply: setattr(reply.question[0], "name", dns.name.from_text("other.example")),
}


def _answer(reply: dns.message.Message, rdtype: str, *rdata: str) -> None:
    reply.answer.append(dns.rrset.from_text(reply.question[0].name, 60, "IN", rdtype, *rdata))


@cache
def _reply(asked: bytes, what: str) -> bytes:
    """Write a reply; once, for dnspython shuffles records."""
    query = dns.message.from_wire(b"\0\0" + asked)
    reply = dns.message.make_response(query, recursion_available=True)
    SAID[what](reply)
    return reply.to_wire(max_size=65535)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("asks"), st.integers(1, 3), st.sampled_from(QUERIES)),
        st.tuples(st.just("says"), st.integers(0, 5), st.sampled_from(list(SAID))),
        st.tuples(st.just("garbage"), st.integers(0, 5), st.binary(max_size=40)),
        st.tuples(st.just("loses"), st.integers(0, 5), st.sampled_from([Loss.REFUSED, Loss.UNREACHABLE])),
        st.tuples(st.just("passes"), st.just(0), st.sampled_from([0.01, 0.15, 0.3, 2.0, 70.0])),
        st.tuples(st.just("flushed"), st.just(0), st.just(None)),
        st.tuples(st.just("checked"), st.integers(0, 1), st.just(None)),
        st.tuples(st.just("asks"), st.just(9), st.sampled_from(CHECKS)),
        st.tuples(st.just("is late"), st.just(0), st.just(None)),
    ),
    max_size=40,
)


def _play(side: Side, events: list[tuple[str, int, Any]]) -> None:
    for event, number, detail in events:
        side.now += 0.001
        if event == "asks":
            side.ask(number, detail)
        elif event == "says":
            attempt = side.listening(number)
            side.hear(number, _reply(attempt.message, detail) if attempt and not _is_check(attempt) else b"")
        elif event == "garbage":
            side.hear(number, detail)
        elif event == "loses":
            side.lose(number, detail)
        elif event == "passes":
            side.passes(detail)
        elif event == "is late":
            side.now += 0.5  # before what is due was done
        elif event == "checked":
            side.check(side.servers[number])
        else:
            side.forwarding.flush()


def _is_check(attempt: Try) -> bool:
    return b"\4loop" in attempt.message


def _compare(events: list[tuple[str, int, Any]]) -> None:
    fast, ordinary = Side(fast=True), Side(fast=False)
    for event in events:
        _play(fast, [event])
        _play(ordinary, [event])
        assert fast.seen() == ordinary.seen()
    for side in (fast, ordinary):
        side.passes(10.0)
        assert side.forwarding.in_flight == 0
    assert fast.seen() == ordinary.seen()


@given(EVENTS)
@example([("asks", 1, QUERIES[0]), ("checked", 0, None), ("asks", 9, CHECKS[0])])
@settings(max_examples=600, deadline=None)
def test_the_fast_path_is_a_way_of_its_own_to_the_same(events: list[tuple[str, int, Any]]) -> None:
    """Whatever happens, the clients get the same and the servers are asked the same as when nothing is ever plain."""
    _compare(events)


@pytest.mark.parametrize("what", SAID)
def test_any_reply_to_a_plain_query(what: str) -> None:
    """So it is for every kind of query and of reply, and for who asks again."""
    for packet in QUERIES:
        _compare([("asks", 1, packet), ("says", 0, what), ("asks", 2, packet)])


PLAIN: dict[str, tuple[list[tuple[str, int, Any]], int]] = {
    "one query": ([("asks", 1, QUERIES[0])], 1),
    "the same from another": ([("asks", 1, QUERIES[0]), ("asks", 2, QUERIES[0])], 1),
    "another name": ([("asks", 1, QUERIES[0]), ("asks", 2, QUERIES[12])], 2),
    "the same to be checked or not": ([("asks", 1, QUERIES[0]), ("asks", 2, QUERIES[2])], 2),
    "without recursion": ([("asks", 1, QUERIES[-3])], 0),
    "while the server is silent": ([*[("asks", 1, QUERIES[0]), ("passes", 0, 5.0)] * 3, ("asks", 1, QUERIES[0])], 1),
    "more than a few": ([("asks", n, _query(f"n{n}.example")) for n in range(9)], PLACES // 4),
}


@pytest.mark.parametrize("case", PLAIN)
def test_what_is_plain(case: str) -> None:
    """The law above is not empty: a query is plain while it is alone with its question, servers are well, few wait."""
    events, plain = PLAIN[case]
    side = Side(fast=True)
    _play(side, events)
    assert side.plain == plain
