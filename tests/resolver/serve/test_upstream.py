"""Forwarding over sockets: real servers that are killed and paused, fakes that lie, and what they are asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import fakes
import ports
import pytest
import servers
from fakes import FakeUpstream

from meshdns.resolver.query.answer import Forward, decide
from meshdns.resolver.query.forward import IN_FLIGHT_MAX
from meshdns.resolver.query.servers import Upstream
from meshdns.resolver.serve.datagram import DatagramListener
from meshdns.resolver.serve.ports import QUERIES_PER_PORT
from meshdns.resolver.serve.upstream import Forwarder, LookupFailedError
from meshdns.resolver.source.entry import Meta, Origin, ServiceEntry
from meshdns.resolver.table.build import Scope, Table, build

GOOD = fakes.answering("198.51.100.7", "2001:db8::7")
ANSWER = ["198.51.100.7"]


def mesh_table(host: str = "mesh.example", generation: int = 1) -> Table:
    """Build a table with one name of ours."""
    entry = ServiceEntry(Meta(Origin("mesh.yaml", 1), "default", "mesh"), (host,), (IPv4Address("240.240.0.9"),))
    scope = Scope("default", "cluster.local", (), (), 30, 5, "probe.meshdns.invalid", generation)
    return build([entry], [], scope)


@dataclass
class Asker:
    """A forwarder in this test's loop, and what is asked of it."""

    forwarder: Forwarder
    table: Table

    async def ask(
        self,
        name: str,
        qtype: str = "A",
        *,
        edns: int = -1,
        limit: int = 512,
        client: object = "client",
        **query: object,
    ) -> dns.message.Message:
        """Return the reply to a query, as a client gets it."""
        message = dns.message.make_query(name, qtype, use_edns=edns, **query)  # type: ignore[arg-type]
        reply = dns.message.from_wire(await self.ask_wire(message.to_wire(), limit, client))
        assert reply.id == message.id
        assert reply.question == message.question
        return reply

    async def ask_wire(self, packet: bytes, limit: int = 512, client: object = "client") -> bytes:
        """Return the reply to a packet."""
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        forward = decide(packet, self.table, Counter(), stream=limit > 4096)
        assert isinstance(forward, Forward)
        self.forwarder.submit(packet, forward, client, limit, answered.set_result)
        return await answered


@contextlib.asynccontextmanager
async def asking(*endpoints: tuple[str, int], listeners: Iterable[tuple[str, int]] = ()) -> AsyncIterator[Asker]:
    """Forward to these servers for a while."""
    table = mesh_table()
    own = [(ip_address(address), port) for address, port in listeners]
    forwarder = Forwarder(asyncio.get_running_loop(), lambda: table, 10_000, 86_400.0, own)
    refused = forwarder.replace_upstreams([Upstream(ip_address(address), port) for address, port in endpoints])
    assert not refused
    try:
        yield Asker(forwarder, table)
    finally:
        forwarder.close()
        await asyncio.sleep(0)


def addresses(reply: dns.message.Message) -> list[str]:
    return [rdata.to_text() for rrset in reply.answer for rdata in rrset]


def at(upstream: FakeUpstream | servers.Server) -> tuple[str, int]:
    return getattr(upstream, "address", ports.ADDRESS), upstream.port


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_outside_name_is_answered_by_the_upstream(address: str) -> None:
    """The answer comes back whole, upstream sees our OPT, the next client gets it from the cache."""

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            assert addresses(await asker.ask("WWW.example")) == ANSWER
            assert addresses(await asker.ask("www.example", edns=0)) == ANSWER
            assert addresses(await asker.ask("www.example", "AAAA")) == ["2001:db8::7"]
        assert upstream.names == ["WWW.example.", "www.example."]
        assert upstream.asked[0].message.payload == 1232

    with FakeUpstream(GOOD, address) as upstream:
        asyncio.run(check(upstream))


LIARS = {
    "silent": fakes.silent,
    "wrong id": fakes.wrong_id(GOOD),
    "wrong question": fakes.wrong_question(GOOD),
    "garbage": fakes.saying(b"\x81\x80\0\1\0\1\0\0\0\0 this is no name"),
    "a header alone": fakes.saying(b"\x81\x80\0\1\0\1\0\0\0\0"),
    "less than a header": fakes.saying(b"\x81"),
    "64 KB": fakes.saying(bytes(65_000)),
    "SERVFAIL": fakes.failing("SERVFAIL"),
    "REFUSED": fakes.failing("REFUSED"),
    "REFUSED twice": fakes.twice(fakes.failing("REFUSED")),
    "truncated and nothing over TCP": lambda question: (
        fakes.truncating(GOOD)(question) if question.transport == "udp" else [fakes.Say(None)]
    ),
    "a pointer forward": fakes.saying(
        b"\x81\x80\0\1\0\1\0\0\0\0\3www\7example\0\0\1\0\1" + b"\xc0\x40\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
    ),
    "a CNAME loop": fakes.saying(
        b"\x81\x80\0\1\0\2\0\0\0\0\3www\7example\0\0\1\0\1" + b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c" * 2
    ),
}


@pytest.mark.parametrize("liar", LIARS)
def test_a_bad_server_costs_no_answer(liar: str) -> None:
    """Whatever the first server does, the second one's answer reaches the client."""

    async def check(first: FakeUpstream, second: FakeUpstream) -> None:
        async with asking(at(first), at(second)) as asker:
            assert addresses(await asker.ask("www.example")) == ANSWER
        assert second.names == ["www.example."]
        assert first.names[0] == "www.example."

    with FakeUpstream(LIARS[liar]) as first, FakeUpstream(GOOD) as second:
        asyncio.run(check(first, second))


def test_an_answer_said_twice_is_given_once() -> None:
    """What comes under an id that nobody waits for any more is counted and goes no further."""

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            for number in range(5):
                assert addresses(await asker.ask(f"n{number}.example")) == ANSWER
            await asyncio.sleep(0.05)
            assert asker.forwarder.in_flight == 0
            await asker.ask("last.example")
            assert asker.forwarder.strangers >= 4

    with FakeUpstream(fakes.twice(GOOD)) as upstream:
        asyncio.run(check(upstream))


def test_a_slow_server_is_not_given_up() -> None:
    """An answer that comes after the next try began is the answer."""

    async def check(slow: FakeUpstream, silent: FakeUpstream) -> None:
        async with asking(at(slow), at(silent)) as asker:
            assert addresses(await asker.ask("www.example")) == ANSWER
        assert silent.names == ["www.example."]

    with FakeUpstream(fakes.slow(0.6, GOOD)) as slow, FakeUpstream(fakes.silent) as silent:
        asyncio.run(check(slow, silent))


def test_a_closed_port_is_told_by_the_kernel() -> None:
    """With nobody listening anywhere the client hears so at once, and why."""

    async def check(port: int) -> None:
        async with asking(("127.0.0.1", port)) as asker, asyncio.timeout(3.0):
            reply = await asker.ask("www.example", edns=0)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert "connection refused" in reply.options[0].to_text()

    with fakes.closed_port() as port:
        asyncio.run(check(port))


def test_an_unreachable_server_is_told_by_the_kernel() -> None:
    """An address without a route, or on an interface that does not exist, fails at once."""

    async def check(upstream: Upstream) -> None:
        async with asking() as asker, asyncio.timeout(3.0):
            asker.forwarder.replace_upstreams([upstream])
            reply = await asker.ask("www.example", edns=0)
        assert reply.rcode() == dns.rcode.SERVFAIL

    asyncio.run(check(Upstream(IPv6Address("fe80::1"), 53, "no-such-if0")))


def test_no_upstream_is_servfail_and_not_ready() -> None:
    """Zero upstreams: SERVFAIL at once, and `ready` says no."""

    async def check() -> None:
        async with asking() as asker:
            assert not asker.forwarder.ready
            assert (await asker.ask("www.example")).rcode() == dns.rcode.SERVFAIL
            asker.forwarder.replace_upstreams([Upstream(IPv4Address("127.0.0.1"), 53)])
            assert asker.forwarder.ready

    asyncio.run(check())


@pytest.mark.parametrize("family", ["127.0.0.1", "::1"])
def test_a_large_answer_comes_over_tcp(family: str) -> None:
    """What does not fit a datagram is fetched over TCP; a UDP client gets TC, a TCP client all of it."""
    many = fakes.truncating(fakes.answering(*(f"198.18.{n >> 8}.{n & 255}" for n in range(800))))

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            small = await asker.ask("www.example")
            assert (small.answer, bool(small.flags & dns.flags.TC)) == ([], True)
            assert len(addresses(await asker.ask("www.example", limit=65535))) == 800
        assert {question.transport for question in upstream.asked} == {"udp", "tcp"}

    with FakeUpstream(many, family) as upstream:
        asyncio.run(check(upstream))


def test_equal_questions_are_asked_once() -> None:
    """A hundred clients, one question upstream, a hundred answers."""

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            replies = await asyncio.gather(*(asker.ask("www.example", client=n) for n in range(100)))
            assert all(addresses(reply) == ANSWER for reply in replies)
        assert len(upstream.asked) == 1

    with FakeUpstream(fakes.slow(0.1, GOOD)) as upstream:
        asyncio.run(check(upstream))


def test_what_is_between_neighbours_stays_there() -> None:
    """DO and a client subnet go upstream, a cookie does not, and the client gets OPT only if it sent one."""

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            cookie = dns.edns.CookieOption(b"12345678", b"")
            subnet = dns.edns.ECSOption("198.51.100.0", 24)
            reply = await asker.ask("one.example", edns=0, options=[cookie, subnet], want_dnssec=True)
            assert (reply.edns, reply.payload, bool(reply.ednsflags & dns.flags.DO)) == (0, 1232, True)
            assert (await asker.ask("two.example")).edns == -1
        seen = upstream.asked[0].message
        assert ([option.otype for option in seen.options], bool(seen.ednsflags & dns.flags.DO)) == ([8], True)

    with FakeUpstream(GOOD) as upstream:
        asyncio.run(check(upstream))


def test_ports_and_ids_cannot_be_foreseen() -> None:
    """Queries go out from several ports, a bounded number from each, under ids without order."""

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            for number in range(4 * QUERIES_PER_PORT):
                await asker.ask(f"n{number}.example")
        per_port = Counter(question.source[1] for question in upstream.asked)
        assert len(per_port) == 4
        assert max(per_port.values()) == QUERIES_PER_PORT
        ids = [int.from_bytes(question.packet[:2], "big") for question in upstream.asked]
        assert len(set(ids)) > 230
        assert sum(later > earlier for earlier, later in pairwise(ids)) in range(80, 176)

    with FakeUpstream(GOOD) as upstream:
        asyncio.run(check(upstream))


def test_places_are_bounded() -> None:
    """So many queries wait as there are places, and who finds none hears so at once; there are 4,096."""
    assert IN_FLIGHT_MAX == 4096

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            asker.forwarder._forwarding._in_flight_max = 64
            waiting = [
                asyncio.ensure_future(asker.ask(f"n{number}.example", client=number % 5)) for number in range(96)
            ]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.2)
            done = {future for future in waiting if future.done()}
            assert asker.forwarder.in_flight == 64
            assert len(done) == 96 - 64
            assert all(future.result().rcode() == dns.rcode.SERVFAIL for future in done)
            for future in waiting:
                future.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    with FakeUpstream(fakes.silent) as upstream:
        asyncio.run(check(upstream))


def test_one_client_holds_a_quarter_of_the_places() -> None:
    """The 1,025th waiting query of one client fails at once, while another client still gets in."""

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            greedy = [asyncio.ensure_future(asker.ask(f"n{number}.example", client="greedy")) for number in range(1025)]
            await asyncio.wait(greedy, return_when=asyncio.FIRST_COMPLETED)
            assert sum(future.done() for future in greedy) == 1
            other = asyncio.ensure_future(asker.ask("other.example", client="other"))
            await asyncio.sleep(0.05)
            assert not other.done()
            for future in (*greedy, other):
                future.cancel()
            await asyncio.gather(*greedy, other, return_exceptions=True)

    with FakeUpstream(fakes.silent) as upstream:
        asyncio.run(check(upstream))


def test_our_own_listeners_are_refused() -> None:
    """Neither the address itself nor a loopback address under an unspecified one is taken as upstream."""

    async def check() -> None:
        async with asking(listeners=[("127.0.0.1", 5301), ("::", 5302)]) as asker:
            own = [Upstream(IPv4Address("127.0.0.1"), 5301), Upstream(IPv6Address("::1"), 5302)]
            other = [Upstream(IPv4Address("127.0.0.1"), 5303), Upstream(IPv4Address("192.0.2.1"), 5301)]
            assert asker.forwarder.replace_upstreams([*own, *other]) == tuple(own)
            assert [server.name for server in asker.forwarder.servers()] == ["127.0.0.1:5303", "192.0.2.1:5301"]

    asyncio.run(check())


def test_nothing_stays_open_of_servers_that_are_asked_no_more() -> None:
    """When the resolver ends, the socket to a server that was replaced while it owed an answer is closed as well."""

    async def story(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            asked = asyncio.ensure_future(asker.ask("www.example"))
            await asyncio.to_thread(upstream.wait_for, 1)
            assert _peers() == [upstream.port]
            asker.forwarder.replace_upstreams([])
            assert _peers() == [upstream.port], "its answer is still waited for"
            asker.forwarder.close()
            assert _peers() == []
            asked.cancel()

    with FakeUpstream(fakes.silent) as upstream:
        asyncio.run(story(upstream))


def test_garbage_keeps_no_socket() -> None:
    """Once a question is settled nothing is listened for, though what came under its id could not be read."""

    async def story(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            assert (await asker.ask("www.example")).rcode() == dns.rcode.SERVFAIL
            asker.forwarder.replace_upstreams([])
            assert _peers() == []

    with FakeUpstream(fakes.wrong_question(GOOD)) as upstream:
        asyncio.run(story(upstream))


def _peers() -> list[int]:
    """Return the ports that connected UDP sockets of this process are connected to."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(descriptor.name))) as sock:
            if sock.type == socket.SOCK_DGRAM and sock.family == socket.AF_INET:
                found.append(sock.getpeername()[1])
    return found


def test_a_name_that_becomes_ours_is_not_answered_from_the_cache() -> None:
    """From the moment a table has a name, by a wildcard too, the cache is silent about it, and about no other."""

    async def check(asker: Asker, client: socket.socket, listener: DatagramListener) -> None:
        async def ask(name: str) -> list[str]:
            client.send(dns.message.make_query(name, "A").to_wire())
            return addresses(dns.message.from_wire(await asyncio.get_running_loop().sock_recv(client, 512)))

        counters = asker.forwarder.cache_counters
        for name in ("www.example", "www.other"):
            assert await ask(name) == ANSWER
            assert await ask(name) == ANSWER
        assert sum(counters.at_once.values()) == 2
        listener.table = asker.table = mesh_table("*.example", 2)
        assert await ask("www.example") == ["240.240.0.9"]
        assert await ask("www.other") == ANSWER
        assert sum(counters.at_once.values()) == 2
        assert await ask("WWW.other") == ANSWER
        assert sum(counters.at_once.values()) == 3
        assert counters.hits == 4

    async def story(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            with _bound() as server, _bound() as client:
                listener = DatagramListener(server, asker.table, asker.forwarder.submit, fast=asker.forwarder)
                listener.start(asyncio.get_running_loop())
                client.setblocking(False)
                client.connect(server.getsockname())
                await check(asker, client, listener)
                listener.stop()
        assert upstream.names == ["www.example.", "www.other."]

    with FakeUpstream(GOOD) as upstream:
        asyncio.run(story(upstream))


@contextlib.contextmanager
def _bound() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


async def _with_listener(check: Callable[[Asker, int], Awaitable[None]]) -> None:
    """Have our own listener forward, so that what upstreams send to it comes back to us."""
    async with asking() as asker:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            listener = DatagramListener(sock, asker.table, asker.forwarder.submit, fast=asker.forwarder)
            listener.start(asyncio.get_running_loop())
            try:
                await check(asker, sock.getsockname()[1])
            finally:
                listener.stop()


def test_kept_answers_go_out_with_our_own() -> None:
    """Over UDP a burst of questions that the cache can answer is answered whole, and upstream is asked once."""

    async def check(asker: Asker, port: int) -> None:
        with FakeUpstream(GOOD) as upstream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            asker.forwarder.replace_upstreams([Upstream(*_typed(upstream))])
            await asker.ask("www.example")
            client.setblocking(False)
            client.connect(("127.0.0.1", port))
            packets = [dns.message.make_query("WWW.example", "A", id=number).to_wire() for number in range(50)]
            for packet in packets:
                client.send(packet)
            loop = asyncio.get_running_loop()
            replies = [dns.message.from_wire(await loop.sock_recv(client, 512)) for _ in packets]
            assert sorted(reply.id for reply in replies) == list(range(50))
            assert all(addresses(reply) == ANSWER for reply in replies)
            assert len(upstream.asked) == 1
            assert asker.forwarder.cache_counters.hits == 50

    asyncio.run(_with_listener(check))


def test_a_burst_is_forwarded_whole() -> None:
    """Over UDP every query of a burst gets its own answer, and what two clients ask for is asked upstream once."""
    names = [f"n{number}.example" for number in range(100)]

    async def check(asker: Asker, port: int) -> None:
        loop = asyncio.get_running_loop()
        with FakeUpstream(fakes.slow(0.1, GOOD)) as upstream, _bound() as one, _bound() as other:
            asker.forwarder.replace_upstreams([Upstream(*_typed(upstream))])
            for client in (one, other):
                client.setblocking(False)
                client.connect(("127.0.0.1", port))
                for ident, name in enumerate(names):
                    client.send(dns.message.make_query(name, "A", use_edns=ident % 2 - 1, id=ident).to_wire())
            for client in (one, other):
                replies = [dns.message.from_wire(await loop.sock_recv(client, 512)) for _ in names]
                assert sorted(reply.id for reply in replies) == list(range(len(names)))
                for reply in replies:
                    assert reply.question[0].name.to_text() == names[reply.id] + "."
                    assert addresses(reply) == ANSWER
                    assert (reply.edns == 0) == bool(reply.id % 2)
            assert sorted(upstream.names) == sorted(f"{name}." for name in names)
            assert asker.forwarder.counters.joined == len(names)
            assert asker.forwarder.in_flight == 0

    asyncio.run(_with_listener(check))


def test_a_query_that_comes_straight_back_is_a_loop() -> None:
    """An upstream that is ourselves (behind a redirect) is named and left alone, with the first query."""

    async def check(asker: Asker, port: int) -> None:
        asker.forwarder.replace_upstreams([Upstream(IPv4Address("127.0.0.1"), port)])
        reply = await asker.ask("www.example", edns=0)
        assert reply.rcode() == dns.rcode.SERVFAIL
        assert f"127.0.0.1:{port}: it leads back to this resolver" in reply.options[0].to_text()
        assert asker.forwarder.servers()[0].looping

    asyncio.run(_with_listener(check))


def test_a_loop_through_another_resolver_is_found() -> None:
    """A dnsmasq that forwards to us is found out by a name that only we know, named, and the other server answers."""

    async def check(asker: Asker, port: int) -> None:
        with contextlib.ExitStack() as stack:
            good = stack.enter_context(FakeUpstream(fakes.slow(0.2, GOOD)))
            # In a thread, for dnsmasq passes the query that shows it has started on to this loop.
            between = await asyncio.to_thread(stack.enter_context, servers.dnsmasq(f"--server=127.0.0.1#{port}"))
            asker.forwarder.replace_upstreams([Upstream(IPv4Address("127.0.0.1"), between.port)])
            async with asyncio.timeout(3.5):
                reply = await asker.ask("www.example", edns=0)
            assert reply.rcode() == dns.rcode.SERVFAIL
            assert "leads back to this resolver" in reply.options[0].to_text()
            both = [Upstream(IPv4Address("127.0.0.1"), server.port) for server in (between, good)]
            asker.forwarder.replace_upstreams(both)
            assert addresses(await asker.ask("other.example")) == ANSWER
            assert [server.looping for server in asker.forwarder.servers()] == [True, False]

    asyncio.run(_with_listener(check))


def test_a_chain_into_the_mesh_ends_in_our_table() -> None:
    """A public CNAME to a name of ours is completed from our table, but not for the relay, which wants the real one."""

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            for _ in range(2):
                assert addresses(await asker.ask("www.example")) == ["mesh.example.", "240.240.0.9"]
            resolved = await asker.forwarder.resolve("www.example", 4)
            assert resolved.addresses == (IPv4Address("203.0.113.5"),)

    zone = {"www.example.": ["CNAME mesh.example."], "mesh.example.": ["A 203.0.113.5"]}
    with FakeUpstream(fakes.serving(zone)) as upstream:
        asyncio.run(check(upstream))


def test_resolving_for_the_relay() -> None:
    """The relay gets addresses and their life, none for a name without any, and an error when nobody answers."""

    async def check(upstream: FakeUpstream) -> None:
        async with asking(at(upstream)) as asker:
            resolve = asker.forwarder.resolve
            assert (await resolve("mesh.example", 4)).addresses == (IPv4Address("198.51.100.7"),)
            found = await resolve("www.example.", 6)
            assert (found.addresses, found.ttl_s) == ((IPv6Address("2001:db8::7"),), 60)
            upstream.behaviour = fakes.serving({})
            assert (await resolve("gone.example", 4)).addresses == ()
            upstream.behaviour = fakes.failing("REFUSED")
            with pytest.raises(LookupFailedError):
                await resolve("www.invalid", 4)
            with pytest.raises(LookupFailedError):
                await resolve("not..aname", 4)

    with FakeUpstream(GOOD) as upstream:
        asyncio.run(check(upstream))


def test_zones_have_servers_of_their_own() -> None:
    """`--zone` sends a suffix to its server and everything else to the others."""

    async def check(corp: FakeUpstream, rest: FakeUpstream) -> None:
        async with asking() as asker:
            asker.forwarder.replace_upstreams([Upstream(*_typed(rest))], {"Corp.example.": [Upstream(*_typed(corp))]})
            await asker.ask("www.CORP.example")
            await asker.ask("www.notcorp.example")
        assert (corp.names, rest.names) == (["www.CORP.example."], ["www.notcorp.example."])

    with FakeUpstream(GOOD) as corp, FakeUpstream(GOOD) as rest:
        asyncio.run(check(corp, rest))


def _typed(upstream: FakeUpstream) -> tuple[IPv4Address, int]:
    return IPv4Address(upstream.address), upstream.port


def test_an_update_goes_to_one_server_as_it_is() -> None:
    """external-dns sends UPDATE: its bytes arrive but for the id, and the reply comes back under the client's id."""

    async def check(upstream: FakeUpstream) -> None:
        update = dns.message.make_query("example", "SOA").to_wire()
        update = update[:2] + bytes([update[2] | 5 << 3]) + update[3:]
        async with asking(at(upstream)) as asker:
            reply = await asker.ask_wire(update)
        assert reply[:2] == update[:2]
        assert upstream.asked[0].packet[2:] == update[2:]

    def refuse(question: fakes.Question) -> list[fakes.Say]:
        packet = question.packet
        return [fakes.Say(packet[:2] + bytes([packet[2] | 0x80, packet[3] | 5]) + packet[4:])]

    with FakeUpstream(refuse) as upstream:
        asyncio.run(check(upstream))


REAL: dict[str, Callable[[], contextlib.AbstractContextManager[servers.Server]]] = {
    "dnsmasq": lambda: servers.dnsmasq("--host-record=www.example,198.51.100.7", "--local=/example/"),
    "unbound": lambda: servers.unbound('local-zone: "example." static', 'local-data: "www.example. 60 A 198.51.100.7"'),
    "nsd": lambda: servers.nsd("example", "www A 198.51.100.7"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_servers_are_understood(name: str) -> None:
    """Every server's answers and denials come through; killed, it is told by ICMP and the other one answers."""

    async def check(real: servers.Server, other: FakeUpstream) -> None:
        async with asking(at(real), at(other)) as asker:
            assert addresses(await asker.ask("www.example")) == ANSWER
            assert (await asker.ask("www.example", "AAAA")).rcode() == dns.rcode.NOERROR
            assert other.asked == []
            real.kill()
            assert addresses(await asker.ask("after.example")) == ANSWER
            assert other.names == ["after.example."]

    with REAL[name]() as real, FakeUpstream(GOOD) as other:
        asyncio.run(check(real, other))


def test_a_paused_server_is_overtaken_and_comes_back() -> None:
    """A stopped server costs its wait until it counts as sick, then nothing, and is used again once it answers."""

    async def check(real: servers.Server, other: FakeUpstream) -> None:
        async with asking(at(real), at(other)) as asker:
            await asker.ask("www.example")
            real.pause()
            for number in range(4):
                assert addresses(await asker.ask(f"n{number}.example")) == ANSWER
            assert [server.healthy for server in asker.forwarder.servers()] == [False, True]
            real.resume()

    with REAL["unbound"]() as real, FakeUpstream(GOOD) as other:
        asyncio.run(check(real, other))
