"""DNS over TCP: what clients may do on a connection, and what they cannot do to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Hashable
from ipaddress import IPv4Address

import dns.message
import dns.rcode
import pytest

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.query.wire import error
from meshdns.resolver.serve import stream
from meshdns.resolver.serve.stream import StreamListener
from meshdns.resolver.source.entry import Meta, Origin, ServiceEntry
from meshdns.resolver.table.build import Scope, Table, build

MANY = 2000


def _table() -> Table:
    def entry(name: str, count: int) -> ServiceEntry:
        found = tuple(IPv4Address("198.18.0.0") + number for number in range(count))
        return ServiceEntry(Meta(Origin("mesh.yaml", 1), "default", name), (f"{name}.example",), found)

    scope = Scope("default", "cluster.local", (), (), 30, 5, "probe.meshdns.invalid", 1)
    return build([entry("one", 1), entry("many", MANY)], [], scope)


TABLE = _table()


class Upstreams:
    """Holds what is forwarded until a test lets it be answered."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, Forward, Callable[[bytes], None]]] = []
        self.clients: set[Hashable] = set()
        self.at_once = False

    def submit(
        self, packet: bytes, forward: Forward, client: Hashable, limit: int, respond: Callable[[bytes], None]
    ) -> None:
        assert limit == 65535
        self.clients.add(client)
        self.waiting.append((packet, forward, respond))
        if self.at_once:
            self.answer()

    def answer(self, index: int = 0) -> None:
        packet, forward, respond = self.waiting.pop(index)
        respond(error(packet, 3, None, forward.query.end))


def serve(check: Callable[[StreamListener, Upstreams, int], Awaitable[None]]) -> None:
    """Serve on a port of loopback for as long as `check` takes."""

    async def run() -> None:
        upstreams = Upstreams()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen(256)
            listener = StreamListener(sock, lambda: TABLE, upstreams.submit)
            listener.start(asyncio.get_running_loop())
            try:
                await asyncio.wait_for(check(listener, upstreams, sock.getsockname()[1]), 30)
            finally:
                listener.stop()
                await asyncio.sleep(0.01)

    asyncio.run(run())


def query(name: str, ident: int = 1) -> bytes:
    """Return a framed query."""
    packet = dns.message.make_query(name, "A", id=ident).to_wire()
    return struct.pack("!H", len(packet)) + packet


async def read(reader: asyncio.StreamReader) -> dns.message.Message:
    """Return the next message."""
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return dns.message.from_wire(await reader.readexactly(length))


async def until(condition: Callable[[], object]) -> None:
    """Return when something has become so."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.005)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection that closes with the test's loop."""
    return await asyncio.open_connection("127.0.0.1", port)


def test_several_queries_one_connection() -> None:
    """Queries in one segment, and in many, are answered in turn; any size is served."""

    async def check(_listener: StreamListener, _upstreams: Upstreams, port: int) -> None:
        reader, writer = await connect(port)
        writer.write(query("one.example", 1) + query("many.example", 2))
        assert len((await read(reader)).answer[0]) == 1
        assert len((await read(reader)).answer[0]) == MANY
        for byte in query("one.example", 3):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await read(reader)).id == 3
        writer.close()

    serve(check)


def test_answers_go_out_as_they_are_there() -> None:
    """A forwarded query holds up nothing behind it, and forwarded answers come in the order of upstreams."""

    async def check(_listener: StreamListener, upstreams: Upstreams, port: int) -> None:
        reader, writer = await connect(port)
        writer.write(query("a.test", 1) + query("b.test", 2) + query("one.example", 3))
        assert (await read(reader)).id == 3
        upstreams.answer(1)
        assert (await read(reader)).id == 2
        upstreams.answer()
        assert (await read(reader)).id == 1
        assert upstreams.clients == {writer.get_extra_info("sockname")}
        writer.close()

    serve(check)


def test_answers_that_are_there_at_once() -> None:
    """Queries behind one that the cache answers are taken once each, in turn."""

    async def check(listener: StreamListener, upstreams: Upstreams, port: int) -> None:
        upstreams.at_once = True
        reader, writer = await connect(port)
        writer.write(b"".join(query(f"n{number}.test", number) for number in range(300)))
        assert [(await read(reader)).id for _ in range(300)] == list(range(300))
        assert listener.counters.queries == 300
        writer.close()

    serve(check)


def test_a_half_closed_connection_gets_its_answers() -> None:
    """A client that asks and closes its side is answered, then the connection ends."""

    async def check(listener: StreamListener, upstreams: Upstreams, port: int) -> None:
        reader, writer = await connect(port)
        writer.write(query("a.test", 1) + query("one.example", 2))
        writer.write_eof()
        assert (await read(reader)).id == 2
        upstreams.answer()
        assert (await read(reader)).id == 1
        assert await reader.read() == b""
        writer.close()
        await until(lambda: not listener.connections)

    serve(check)


def test_answers_for_a_client_that_left_go_nowhere() -> None:
    """A reply that comes after the connection is gone is no error."""

    async def check(listener: StreamListener, upstreams: Upstreams, port: int) -> None:
        _, writer = await connect(port)
        writer.write(query("a.test"))
        await until(lambda: upstreams.waiting)
        reset_on_close = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_on_close)
        writer.transport.abort()
        await until(lambda: not listener.connections)
        upstreams.answer()

    serve(check)


GARBAGE = {
    "a response": b"\0\x0c" + bytes.fromhex("000181800000000000000000"),
    "an empty message": b"\0\0",
    "less than a header": b"\0\x03abc",
    "a header of zeros": b"\0\x0c" + bytes(12),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_does_not_end_a_connection(case: str) -> None:
    """What cannot be answered is dropped or refused, and the next query is answered."""

    async def check(_listener: StreamListener, _upstreams: Upstreams, port: int) -> None:
        reader, writer = await connect(port)
        writer.write(GARBAGE[case] + query("one.example", 7))
        reply = await read(reader)
        if reply.id != 7:
            assert reply.rcode() == dns.rcode.FORMERR
            reply = await read(reader)
        assert reply.id == 7
        writer.close()

    serve(check)


@pytest.mark.parametrize("sent", [b"", b"\0", query("one.example")[:-1]])
def test_an_idle_connection_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a whole message for the idle limit a connection ends, however often a byte of one comes."""
    monkeypatch.setattr(stream, "IDLE_S", 0.3)

    async def check(listener: StreamListener, _upstreams: Upstreams, port: int) -> None:
        reader, writer = await connect(port)
        for byte in sent:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        assert await _ended(reader)
        assert listener.counters.timed_out == 1
        writer.close()

    serve(check)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:  # reset, or a write of ours came after the end
        return True


def test_a_client_that_never_reads_is_not_read_from() -> None:
    """Its replies fill the buffer, then its queries stay with it, and nobody else is held up."""

    async def check(listener: StreamListener, _upstreams: Upstreams, port: int) -> None:
        with socket.socket() as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            greedy.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(greedy, ("127.0.0.1", port))
            asking = asyncio.ensure_future(loop.sock_sendall(greedy, query("many.example") * 50_000))
            await until(lambda: listener.counters.queries > 4)
            reader, writer = await connect(port)
            answered = 0
            while answered < 50:
                writer.write(query("one.example"))
                await read(reader)
                answered += 1
            assert listener.counters.queries < 1000
            asking.cancel()
            writer.close()

    serve(check)


def test_a_client_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not reading for the idle limit ends the connection, though there is plenty to write."""
    monkeypatch.setattr(stream, "IDLE_S", 0.3)

    async def check(listener: StreamListener, _upstreams: Upstreams, port: int) -> None:
        _, writer = await connect(port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(query("many.example") * 1000)
        await until(lambda: listener.counters.timed_out)
        writer.transport.abort()

    serve(check)


def test_queries_under_way_are_bounded() -> None:
    """A connection has so many forwarded queries at a time; the next are taken up when answers come."""

    async def check(_listener: StreamListener, upstreams: Upstreams, port: int) -> None:
        reader, writer = await connect(port)
        writer.write(b"".join(query(f"n{number}.test", number) for number in range(200)))
        await until(lambda: len(upstreams.waiting) == stream.UNDER_WAY_MAX)
        await asyncio.sleep(0.05)
        assert len(upstreams.waiting) == stream.UNDER_WAY_MAX
        for number in range(200):
            upstreams.answer()
            assert (await read(reader)).id == number
        assert not upstreams.waiting
        writer.close()

    serve(check)


def test_listeners_share_the_places() -> None:
    """With every place taken at one listener, the other takes nobody; what one ends, the other keeps."""

    async def check(listener: StreamListener, upstreams: Upstreams, port: int) -> None:
        listener.connections_max = 3
        with socket.create_server(("127.0.0.1", 0)) as sock:
            other = StreamListener(sock, lambda: TABLE, upstreams.submit, None, listener.connections, 3)
            other.start(asyncio.get_running_loop())
            held = [await connect(port), await connect(port), await connect(sock.getsockname()[1])]
            await until(lambda: len(listener.connections) == 3)
            for refused_at in (port, sock.getsockname()[1]):
                reader, writer = await connect(refused_at)
                assert await _ended(reader)
                writer.close()
            assert (listener.counters.refused, other.counters.refused) == (1, 1)
            other.stop()
            assert await _ended(held[2][0])
            assert len(listener.connections) == 2
            for _, writer in held:
                writer.close()

    serve(check)


def test_connections_are_bounded() -> None:
    """There are 128; one more is closed at once while all are busy, and takes the place of one that idles."""

    async def check(listener: StreamListener, _upstreams: Upstreams, port: int) -> None:
        held = [await connect(port) for _ in range(stream.CONNECTIONS_MAX)]
        await until(lambda: len(listener.connections) == stream.CONNECTIONS_MAX)
        reader, writer = await connect(port)
        assert await _ended(reader)
        assert listener.counters.refused == 1
        writer.close()
        await asyncio.sleep(stream.YIELDS_AFTER_S)
        for _, busy in held[1:]:
            busy.write(query("one.example"))
        await asyncio.gather(*(read(reader) for reader, _ in held[1:]))
        reader, writer = await connect(port)
        writer.write(query("one.example"))
        assert (await read(reader)).id == 1
        assert await _ended(held[0][0])
        assert len(listener.connections) == stream.CONNECTIONS_MAX
        for _, open_one in (*held, (reader, writer)):
            open_one.close()

    serve(check)
