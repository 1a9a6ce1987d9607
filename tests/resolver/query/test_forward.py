"""Forwarding as scenarios: numbered steps in text files, run against the state machine with a clock of their own.

A file begins with what is set up (`servers a b`, `zone corp.example c`, `ours mesh.example A 240.240.0.1`), then come
the steps. What a step does not claim must not happen: every message sent and every reply given stands in a step, and
`nobody is asked`, `nobody gets anything` say so where a reader may doubt it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from tables import table_of

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.query.asking import Client
from meshdns.resolver.query.cache import Cache
from meshdns.resolver.query.effects import Answer, CheckLoop, Effect, Forget, Send
from meshdns.resolver.query.exchange import Loss, Try
from meshdns.resolver.query.fastpath import FastPath
from meshdns.resolver.query.plain import Plain
from meshdns.resolver.query.servers import Server, Servers, Upstream
from meshdns.resolver.query.wire import HEADER_BYTES, Query, parse, udp_limit
from meshdns.resolver.table.names import to_key

SCENARIOS = Path(__file__).parent / "scenarios"
NOTHING_OURS = table_of()


@dataclass
class World:
    """The state machine, its clock, and what came out of it and was not claimed yet; `fast`: queries may be plain."""

    fast: bool = True
    servers: dict[str, Server] = field(default_factory=dict)
    ours: dict[str, list[str]] = field(default_factory=dict)
    in_flight_max: int = 4096
    now: float = 1000.0
    sent: deque[Try] = field(default_factory=deque)
    given: deque[tuple[str, dns.message.Message]] = field(default_factory=deque)
    suspected: deque[Server] = field(default_factory=deque)
    open: dict[str, Try] = field(default_factory=dict)
    forwarding: FastPath = field(init=False)

    def begin(self, default: list[str], zones: dict[str, list[str]], cache_entries: int) -> None:
        """Set the state machine up."""
        cache = Cache(cache_entries, 1 << 20, 86_400)
        self.forwarding = FastPath(self.make_servers(default, zones), cache, self.find, self.in_flight_max)

    def make_servers(self, default: list[str], zones: dict[str, list[str]]) -> Servers:
        """Make servers by name, known ones again."""
        by_zone = {to_key(zone) or b"": tuple(self.server(name) for name in names) for zone, names in zones.items()}
        return Servers(tuple(self.server(name) for name in default), by_zone)

    def server(self, name: str) -> Server:
        """Return the server of this name."""
        return self.servers.setdefault(name, Server(Upstream(IPv4Address(f"192.0.2.{ord(name)}"))))

    def find(self, name: bytes, kind: bytes) -> bytes | None:
        """Answer for names of ours as a table would."""
        text = dns.name.from_wire(name, 0)[0].to_text(omit_final_dot=True)
        rdata = self.ours.get(text.lower())
        if rdata is None:
            return None
        qtype = dns.rdatatype.to_text(dns.rdatatype.RdataType(int.from_bytes(kind[:2], "big")))
        reply = dns.message.make_response(dns.message.make_query(text, qtype))
        found = [item.split()[1] for item in rdata if item.split()[0] == qtype]
        if found:
            reply.answer.append(dns.rrset.from_text(text + ".", 30, "IN", qtype, *found))
        return reply.to_wire()

    def take(self, effects: bytes | list[Effect], client: str = "") -> None:
        """Carry effects out as far as a world without sockets can."""
        if isinstance(effects, bytes):
            self.given.append((client, dns.message.from_wire(effects)))
            return
        for effect in effects:
            if isinstance(effect, Send):
                self.sent.append(effect.attempt)
            elif isinstance(effect, Answer):
                effect.respond(effect.message)
            elif isinstance(effect, CheckLoop):
                self.suspected.append(effect.server)
            elif isinstance(effect, Forget):
                effect.attempt.over = True

    def take_plainly(self, packet: bytes, client: str) -> bool:
        """Take a query the fast way; tell whether that could be."""
        found = self.forwarding.look(packet, NOTHING_OURS, self.now)
        if isinstance(found, Plain):
            found.who, found.send = client, lambda who, message: self.respond(who)(message)
            if not self.forwarding.ask(found):
                return False
            self.sent.append(found)
        elif found is not None:
            self.take(found, client)
        return found is not None

    def hear(self, attempt: Try, message: bytes) -> None:
        """Take a message for a try."""
        if isinstance(attempt, Plain):
            answer = self.forwarding.answer(attempt, message)
            if answer is not None:
                attempt.respond(answer)
                self.forwarding.settled(attempt, self.now)
                return
        self.take(self.forwarding.heard(attempt, message, self.now))

    def respond(self, client: str) -> Callable[[bytes], None]:
        """Return what takes a client's reply."""
        return lambda message: self.given.append((client, dns.message.from_wire(message)))


# The language of the steps.


def asks(world: World, client: str, name: str, qtype: str, how: str) -> None:
    """Have a query arrive: `client 1 asks www.example A edns do cd ad norecurse tcp subnet cookie update`."""
    words = how.split()
    options: list[dns.edns.Option] = []
    if "subnet" in words:
        options.append(dns.edns.ECSOption("198.51.100.0", 24))
    if "cookie" in words:
        options.append(dns.edns.CookieOption(b"12345678", b""))
    query = dns.message.make_query(
        name,
        qtype,
        use_edns=0 if {"edns", "do", "subnet", "cookie"} & set(words) else -1,
        want_dnssec="do" in words,
        options=options or None,
        payload=4096 if "large" in words else 1232,
    )
    query.flags ^= dns.flags.RD if "norecurse" in words else 0
    query.flags |= (dns.flags.CD if "cd" in words else 0) | (dns.flags.AD if "ad" in words else 0)
    packet = bytearray(query.to_wire())
    if "update" in words:
        packet[2] |= 5 << 3
    stream = "tcp" in words
    if not world.fast or stream or not world.take_plainly(bytes(packet), client):
        world.take(world.forwarding.submit(made_client(world, bytes(packet), client, stream=stream)), client)


def made_client(world: World, packet: bytes, who: str, *, stream: bool = False) -> Client:
    """Make what `decide` makes of a packet that is not for us."""
    query = parse(packet)
    if packet[2] >> 3:
        head = int.from_bytes(packet[:2], "big"), int.from_bytes(packet[2:4], "big")
        forward = Forward(
            packet, Query(*head, b"", b"", 0, 0, None, HEADER_BYTES), 65535 if stream else 512, whole=True
        )
    else:
        assert isinstance(query, Query)
        forward = Forward(packet, query, 65535 if stream else udp_limit(query.edns), whole=query.qclass != 1)
    return Client(forward, who, world.respond(who), world.now)


def is_asked(world: World, server: str, name: str, qtype: str, how: str) -> None:
    """Claim the next message sent: `a is asked www.example A [over tcp] [plain] [do] [cd] [norecurse] [options 8]`."""
    assert world.sent, f"{server} is asked nothing"
    attempt = world.sent.popleft()
    message = dns.message.from_wire(b"\0\0" + attempt.message)
    question = message.question[0] if message.question else message.sections[0][0]
    assert attempt.server is world.server(server), f"asked is {attempt.server.name}"
    assert (question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)) == (name, qtype)
    assert attempt.stream == ("over tcp" in how)
    assert message.opcode() == (5 if "update" in how else 0)
    if "update" not in how:
        assert (message.edns == -1) == ("plain" in how)
        assert ("do" in how.split()) == bool(message.ednsflags & dns.flags.DO)
        assert ("cd" in how.split()) == bool(message.flags & dns.flags.CD)
        assert ("norecurse" in how.split()) != bool(message.flags & dns.flags.RD)
        wanted = re.search(r"options (\d+)", how)
        assert [int(option.otype) for option in message.options] == ([int(wanted[1])] if wanted else [])
    world.open[server] = attempt


def says(world: World, server: str, what: str) -> None:
    """Have a server reply: `a says NOERROR A 192.0.2.9 ttl 60 tc`, `a says NXDOMAIN soa 60`, `a says garbage`."""
    attempt = world.open[server]
    query = dns.message.from_wire(b"\0\0" + attempt.message)
    world.hear(attempt, wire_reply(query, what))


def wire_reply(query: dns.message.Message, what: str) -> bytes:
    """Write a reply as a step words it."""
    if what == "garbage":
        return b"\0\0 this is no message"
    words = what.split()
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(dns.rcode.from_text(words[0]))
    ttl = int(words[words.index("ttl") + 1]) if "ttl" in words else 60
    if query.opcode():
        return reply.to_wire()
    owner = query.question[0].name
    for rdtype, rdata in re.findall(r"\b(A|AAAA|CNAME) (\S+)", what):
        reply.answer.append(dns.rrset.from_text(owner, ttl, "IN", rdtype, rdata + ("." if rdtype == "CNAME" else "")))
        owner = dns.name.from_text(rdata) if rdtype == "CNAME" else owner
    if "hundred" in words:
        lots = [f"198.18.0.{n}" for n in range(1, 101)]
        reply.answer.append(dns.rrset.from_text(owner, ttl, "IN", "A", *lots))
    if "soa" in words:
        minimum = words[words.index("soa") + 1]
        soa = f"ns.example. host.example. 1 2 3 4 {minimum}"
        reply.authority.append(dns.rrset.from_text("example.", 3600, "IN", "SOA", soa))
    if "noedns" in words:
        reply.use_edns(-1)
    reply.flags |= (dns.flags.TC if "tc" in words else 0) | (dns.flags.AD if "ad" in words else 0)
    if "otherwise" in words:
        reply.question[0].name = dns.name.from_text("other.example.")
    return reply.to_wire(max_size=65535)


def refuses(world: World, server: str) -> None:
    """Close a server's port: `a refuses`."""
    world.take(world.forwarding.lost(world.open[server], Loss.REFUSED, world.now))


def gets(world: World, client: str, what: str) -> None:
    """`client 1 gets NOERROR A 192.0.2.9 ttl 60 [tc] [ad] [edns] [ede 3 text]`: the next reply given."""
    assert world.given, "nobody gets anything"
    who, reply = world.given.popleft()
    assert who == client, f"client {who} gets {reply}"
    words = what.split()
    assert dns.rcode.to_text(reply.rcode()) == words[0]
    wanted = re.findall(r"\b(?:A|AAAA|CNAME) (\S+)", what)
    answers = [rdata.to_text().removesuffix(".") for rrset in reply.answer for rdata in rrset]
    assert answers == wanted if "hundred" not in words else len(answers) == 100
    if "ttl" in words:
        assert (reply.answer or reply.authority)[0].ttl == int(words[words.index("ttl") + 1])
    assert ("tc" in words) == bool(reply.flags & dns.flags.TC)
    assert ("ad" in words) == bool(reply.flags & dns.flags.AD)
    assert not reply.flags & dns.flags.AA
    assert reply.opcode() or reply.flags & dns.flags.RA
    assert ("edns" in words) == (reply.edns == 0)
    ede = re.search(r"ede (\d+)(?: (.*))?", what)
    said = [option for option in reply.options if isinstance(option, dns.edns.EDEOption)]
    assert [int(option.code) for option in said] == ([int(ede[1])] if ede else [])
    if ede and ede[2]:
        assert ede[2] in (said[0].text or ""), said[0].text


def passes(world: World, seconds: str) -> None:
    """`0.4 s pass`: the clock goes on, and what is due is done when it is due."""
    end = world.now + float(seconds)
    while world.forwarding.wake_s <= end:
        world.now = max(world.now, world.forwarding.wake_s)
        world.take(world.forwarding.wake(world.now))
    world.now = end


def nobody_asked(world: World) -> None:
    """`nobody is asked`."""
    assert not world.sent, f"{world.sent[0].server.name} is asked"


def nobody_gets(world: World) -> None:
    """`nobody gets anything`."""
    assert not world.given, f"client {world.given[0][0]} gets {world.given[0][1]}"


def flushed(world: World) -> None:
    """Flush: `the cache is flushed`."""
    world.forwarding.flush()


def become(world: World, names: str) -> None:
    """Replace the upstreams: `the servers become b c`."""
    world.forwarding.replace(world.make_servers(names.split(), {}))


def suspected(world: World, server: str) -> None:
    """Check a server, as asked for: `a is suspected of a loop`."""
    assert world.suspected.popleft() is world.server(server)
    world.take(world.forwarding.check_loop(world.server(server), to_key("token.loop") or b"", world.now))


STEPS: list[tuple[str, Callable[..., None]]] = [
    (r"client (\S+) asks (\S+) (\S+)(.*)", asks),
    (r"(\w+) is asked (\S+) (\S+)(.*)", is_asked),
    (r"(\w+) says (.+)", says),
    (r"(\w+) refuses", refuses),
    (r"client (\S+) gets (.+)", gets),
    (r"([\d.]+) s pass", passes),
    (r"nobody is asked", nobody_asked),
    (r"nobody gets anything", nobody_gets),
    (r"the cache is flushed", flushed),
    (r"the servers become (.+)", become),
    (r"(\w+) is suspected of a loop", suspected),
]


def run(text: str, *, fast: bool = True) -> None:
    """Run one scenario; an error names the step."""
    world, default, zones, cache_entries, started = World(fast), list[str](), dict[str, list[str]](), 10_000, False
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if not started and words[0] == "servers":
            default = words[1:]
        elif not started and words[0] == "zone":
            zones[words[1]] = words[2:]
        elif not started and words[0] == "ours":
            world.ours.setdefault(words[1], []).append(" ".join(words[2:]))
        elif not started and words[0] == "places":
            world.in_flight_max = int(words[1])
        else:
            if not started:
                world.begin(default, zones, cache_entries)
                started = True
            _step(world, " ".join(words))
    assert not world.sent, f"not claimed: {world.sent[0].server.name} is asked"
    assert not world.given, f"not claimed: client {world.given[0][0]} gets {world.given[0][1]}"


def _step(world: World, line: str) -> None:
    number, text = line.split(" ", 1)
    assert number.removesuffix(".").isdigit(), f"no step: {line}"
    for pattern, step in STEPS:
        match = re.fullmatch(pattern, text)
        if match is not None:
            try:
                step(world, *match.groups())
            except AssertionError as error:
                raise AssertionError(f"step {line}: {error}") from error
            return
    raise AssertionError(f"no step: {line}")


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "ordinary"])
@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path, fast: bool) -> None:  # noqa: FBT001 - a parameter
    """Everything that is sent and given is what the scenario says, in its order, by the fast path and without."""
    run(path.read_text(), fast=fast)


WRONG = {
    "a message that is not claimed": "servers a\n1. client 1 asks www.example A\n",
    "a message to another server": "servers a b\n1. client 1 asks www.example A\n2. b is asked www.example A\n",
    "a reply that does not come": "servers a\n1. client 1 asks x A\n2. a is asked x A\n3. client 1 gets NOERROR\n",
    "a step that does not exist": "servers a\n1. a sings\n",
}


@pytest.mark.parametrize("case", WRONG)
def test_a_scenario_that_is_not_so_fails(case: str) -> None:
    """The runner sees what a scenario leaves out or gets wrong."""
    with pytest.raises(AssertionError):
        run(WRONG[case])
