"""UDP over real sockets: one packet at a time or in batches, what is sent is answered, counted, and delays nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable, Iterator
from functools import cache
from typing import Any

import dns.message
import pytest
from tables import WORLD, answer, entry, table_of

from meshdns.resolver.query.answer import Forward, read_tally
from meshdns.resolver.serve.batch import SLOTS, Batch, is_available
from meshdns.resolver.serve.datagram import RECEIVE_BUFFER_BYTES, DatagramListener
from meshdns.resolver.serve.loop import AnsweringLoop
from meshdns.resolver.serve.querylog import Observation
from meshdns.resolver.table.build import Table

LOOPS = pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, AnsweringLoop], ids=["asyncio", "answering"])
BATCHED = pytest.mark.parametrize("batched", [False, True], ids=["single", "batched"])
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])

Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
WITHIN_S = 10.0


@cache
def world() -> Table:
    return table_of(*WORLD)


def query(name: str, qtype: str = "A", ident: int = 1) -> bytes:
    return dns.message.make_query(name, qtype, id=ident).to_wire()


def answered_upstream(
    packet: bytes, _forward: Forward, _client: Hashable, _limit: int, respond: Callable[[bytes], None]
) -> None:
    """Say at once what no table would: the packet itself, marked as a response."""
    respond(packet[:2] + b"\x80" + packet[3:])


@contextlib.contextmanager
def bound(
    family: socket.AddressFamily = socket.AF_INET, buffer_bytes: int = RECEIVE_BUFFER_BYTES
) -> Iterator[socket.socket]:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.bind((LOOPBACK[family], 0))
        yield sock


@contextlib.contextmanager
def clients(server: socket.socket, count: int = 1) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket(server.family, socket.SOCK_DGRAM)) for _ in range(count)]
        for client in made:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            client.setblocking(False)
            client.connect(server.getsockname())
        yield made


def run(loop: Loop, story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(story, WITHIN_S))


async def replies(client: socket.socket, count: int) -> list[bytes]:
    loop = asyncio.get_running_loop()
    return [await loop.sock_recv(client, 65535) for _ in range(count)]


MIXED = (
    [
        query(name, qtype, ident)
        for ident, name in enumerate(("address.internal", "auto.internal", "db"))
        for qtype in ("A", "AAAA", "HTTPS")
    ]
    + [query("address.internal.cluster.local"), query("_http._tcp.address.internal", "SRV"), query("x.wild.example")]
    + [query("www.example.com"), query("www.example.com", "MX", 7), query("1.0.240.240.in-addr.arpa", "PTR")]
    + [b"\x12\x34\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", b"\x12\x34\1\0" + bytes(8), b"\x12\x34\x28\0" + bytes(8)]
)
SILENT = [b"", b"x", b"\x12\x34\x81\x80" + bytes(8)]


def expected(packet: bytes) -> bytes:
    decision = answer(world(), packet)
    if isinstance(decision, Forward):
        return packet[:2] + b"\x80" + packet[3:]
    assert isinstance(decision, bytes)
    return decision


@LOOPS
@BATCHED
@FAMILIES
def test_every_client_gets_its_replies(family: socket.AddressFamily, batched: bool, loop: Loop) -> None:  # noqa: FBT001 - a parameter
    """Sent in bursts by several clients, each query gets the reply that it gets alone, at the client that sent it."""

    async def story() -> None:
        with bound(family) as server, clients(server, 5) as senders:
            listener = DatagramListener(server, table_of(*WORLD), answered_upstream)
            if batched:
                listener.read_many()
            listener.start(asyncio.get_running_loop())
            for turn in range(8):
                for number, client in enumerate(senders):
                    for packet in (*SILENT, *SILENT, *MIXED[number:]):
                        client.send(packet)
                for number, client in enumerate(senders):
                    got = Counter(len(reply) for reply in await replies(client, len(MIXED[number:])))
                    assert got == Counter(len(expected(packet)) for packet in MIXED[number:]), turn
            assert bool(listener.counters.batches) is batched
            assert listener.counters.heartbeats == listener.counters.short == listener.counters.responses == 8 * 5 * 2
            listener.stop()

    run(loop, story())


@LOOPS
@BATCHED
def test_replies_are_decides(batched: bool, loop: Loop) -> None:  # noqa: FBT001 - a parameter
    """What comes back is what `decide` says, byte for byte, one query at a time and in a burst."""
    steady = [packet for packet in MIXED if b"\2db" not in packet]

    async def story() -> None:
        with bound() as server, clients(server) as (client,):
            listener = DatagramListener(server, world(), answered_upstream)
            if batched:
                listener.read_many()
            listener.start(asyncio.get_running_loop())
            for _ in range(5):
                for packet in steady:
                    client.send(packet)
                    assert await replies(client, 1) == [expected(packet)]
            for _ in range(5):
                for packet in steady:
                    client.send(packet)
                got = await replies(client, len(steady))
                assert sorted(got) == sorted(map(expected, steady))

    run(loop, story())


@BATCHED
def test_no_burst_is_lost(batched: bool) -> None:  # noqa: FBT001 - a parameter
    """A thousand queries at once are all answered, and the kernel drops none."""

    async def story() -> None:
        with bound() as server, clients(server) as (client,):
            listener = DatagramListener(server, world(), answered_upstream)
            if batched:
                listener.read_many()
            for ident in range(1000):
                client.send(query("address.internal", ident=ident))
            listener.start(asyncio.get_running_loop())
            got = await replies(client, 1000)
            assert sorted(int.from_bytes(reply[:2], "big") for reply in got) == list(range(1000))
            assert listener.kernel_drops() == 0
            assert read_tally(listener.counters.tally) == {(1, 0): 1000}

    run(AnsweringLoop, story())


def test_kernel_drops_are_seen() -> None:
    """What the kernel drops because nobody read it is counted."""
    with bound(buffer_bytes=4096) as server, clients(server) as (client,):
        listener = DatagramListener(server, world(), answered_upstream)
        for _ in range(100):
            client.send(query("address.internal"))
        assert 0 < listener.kernel_drops() < 100


@LOOPS
@BATCHED
def test_a_datagram_of_any_size(batched: bool, loop: Loop) -> None:  # noqa: FBT001 - a parameter
    """A query is read whole, up to the largest datagram there is."""

    async def story() -> None:
        with bound() as server, clients(server) as (client,):
            listener = DatagramListener(server, world(), answered_upstream)
            if batched:
                listener.read_many()
            listener.start(asyncio.get_running_loop())
            padded = query("address.internal")
            for _ in range(40):
                client.send(padded + bytes(65507 - len(padded)))
                client.send(padded)
                assert await replies(client, 2) == [expected(padded)] * 2

    run(loop, story())


@LOOPS
@BATCHED
def test_the_table_is_swapped(batched: bool, loop: Loop) -> None:  # noqa: FBT001 - a parameter
    """The next packet is answered from the table that was assigned, and replies never mix two."""

    async def story() -> None:
        with bound() as server, clients(server) as (client,):
            listener = DatagramListener(server, world(), answered_upstream)
            if batched:
                listener.read_many()
            listener.start(asyncio.get_running_loop())
            for number in range(40):
                listener.table = table_of(entry("address.internal", f"192.0.2.{number}"))
                client.send(query("address.internal"))
                (reply,) = await replies(client, 1)
                assert reply[-1] == number

    run(loop, story())


@LOOPS
@BATCHED
def test_others_get_their_turn(batched: bool, loop: Loop) -> None:  # noqa: FBT001 - a parameter
    """While queries keep coming, timers fire, tasks run and other sockets are served."""

    async def story() -> None:
        here = asyncio.get_running_loop()
        with bound() as server, clients(server) as (client,):
            listener = DatagramListener(server, world(), answered_upstream)
            if batched:
                listener.read_many()
            listener.start(here)
            flooding = True

            def flood() -> None:
                while flooding:
                    with contextlib.suppress(OSError):
                        client.send(query("address.internal"))

            flooder = here.run_in_executor(None, flood)
            try:
                while read_tally(listener.counters.tally).get((1, 0), 0) <= SLOTS:  # noqa: ASYNC110 - plain numbers
                    await asyncio.sleep(0.01)
                one, other = socket.socketpair()
                with one, other:
                    one.setblocking(False)
                    other.send(b"x")
                    assert await here.sock_recv(one, 1) == b"x"
                assert await asyncio.gather(*(asyncio.sleep(0.01, n) for n in range(10))) == list(range(10))
            finally:
                flooding = False
                await flooder

    run(loop, story())


@LOOPS
@BATCHED
def test_late_replies(batched: bool, loop: Loop) -> None:  # noqa: FBT001 - a parameter
    """A reply may come while others are answered, after `stop`, or when the socket is closed: the last is counted."""
    waiting: list[Callable[[bytes], None]] = []

    def submit(
        _packet: bytes, forward: Forward, client: Hashable, limit: int, respond: Callable[[bytes], None]
    ) -> None:
        assert limit == forward.limit == 512
        assert isinstance(client, tuple)
        waiting.append(respond)

    async def story() -> None:
        with bound() as server, clients(server) as (client,):
            listener = DatagramListener(server, world(), submit)
            if batched:
                listener.read_many()
            listener.start(asyncio.get_running_loop())
            for ident in range(3):
                client.send(query("www.example.com", ident=ident))
            while len(waiting) < 3:  # noqa: ASYNC110 - nothing is told when a packet arrives
                await asyncio.sleep(0.01)
            assert listener.counters.forwarded == 3
            waiting[0](b"late")
            assert await replies(client, 1) == [b"late"]
            listener.stop()
            client.send(query("address.internal"))
            waiting[1](b"later")
            assert await replies(client, 1) == [b"later"]
            await asyncio.sleep(0.02)
            assert not read_tally(listener.counters.tally)
        waiting[2](b"too late")
        assert listener.counters.unsent == 1

    run(loop, story())


@LOOPS
def test_chased(loop: Loop) -> None:
    """An ExternalName's target is asked upstream, and the client gets the reply to its own question."""

    def submit(
        packet: bytes, _forward: Forward, _client: Hashable, _limit: int, respond: Callable[[bytes], None]
    ) -> None:
        reply = dns.message.make_response(dns.message.from_wire(packet))
        reply.answer.append(dns.rrset.from_text("www.example.org.", 9, "IN", "A", "192.0.2.9"))
        respond(reply.to_wire())

    async def story() -> None:
        with bound() as server, clients(server) as (client,):
            DatagramListener(server, world(), submit).start(asyncio.get_running_loop())
            client.send(query("outside"))
            (reply,) = await replies(client, 1)
            assert [rrset.to_text() for rrset in dns.message.from_wire(reply).answer] == [
                "outside. 30 IN CNAME www.example.org.",
                "www.example.org. 9 IN A 192.0.2.9",
            ]

    run(loop, story())


@LOOPS
def test_observed(loop: Loop) -> None:
    """A query log is told each reply, with how long it took; what gets none is counted as ever."""
    seen: list[Observation] = []

    async def story() -> None:
        with bound() as server, clients(server) as (client,):
            listener = DatagramListener(server, world(), answered_upstream, observe=seen.append)
            listener.start(asyncio.get_running_loop())
            sent = [query("address.internal"), query("www.example.com")]
            for packet in (*sent, b"", b"x"):
                client.send(packet)
            got = await replies(client, 2)
            while not listener.counters.short:  # noqa: ASYNC110 - nothing is told when a packet is dropped
                await asyncio.sleep(0.01)
            assert [told.packet for told in seen] == sent
            assert [told.reply for told in seen] == got
            assert [told.transport for told in seen] == ["udp", "udp"]
            assert {told.client for told in seen} == {client.getsockname()}
            assert all(0 < told.decided_ns <= told.total_ns for told in seen)
            assert (listener.counters.heartbeats, listener.counters.forwarded) == (1, 1)

    run(loop, story())


@LOOPS
@BATCHED
def test_an_error_ends_nothing(batched: bool, loop: Loop) -> None:  # noqa: FBT001 - a parameter
    """An error in what a packet leads to is reported as asyncio reports those of callbacks, and serving goes on."""
    told: list[dict[str, Any]] = []

    def submit(*_: object) -> None:
        raise ZeroDivisionError

    async def story() -> None:
        here = asyncio.get_running_loop()
        here.set_exception_handler(lambda _, context: told.append(context))
        with bound() as server, clients(server) as (client,):
            listener = DatagramListener(server, world(), submit)
            if batched:
                listener.read_many()
            listener.start(here)
            for _ in range(3):
                client.send(query("www.example.com"))
                client.send(query("address.internal"))
                assert await replies(client, 1) == [expected(query("address.internal"))]

    run(loop, story())
    assert len(told) == 3
    assert all(isinstance(context["exception"], ZeroDivisionError) for context in told)


def test_what_cannot_be_sent_is_given_up() -> None:
    """A reply that the kernel refuses is counted, and those after it go out."""
    if not is_available():
        pytest.skip("the C library has no recvmmsg")
    with bound() as server, clients(server) as (client,):
        for packet in (b"a", b"b", b"c"):
            client.send(packet)
        batch = Batch(server)
        assert batch.receive() == [1, 1, 1]
        assert batch.client(0) == client.getsockname()
        for slot in range(3):
            batch.replies[slot << 12] = b"abc"[slot]
            batch.reply_sizes[slot] = 1
            batch.reply_names[slot] = batch.names[slot]
        struct.pack_into("!H", batch._addresses, 32 + 2, 0)  # nobody can be sent to port 0
        assert batch.send(3) == 1
        assert [client.recv(16), client.recv(16)] == [b"a", b"c"]
        assert batch.receive() == []
