"""What happens to the bytes of a connection that is relayed: ends, resets, back-pressure, idleness, large amounts."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from namespaces import Namespace
from relaying import (
    SETTINGS,
    Relaying,
    connect,
    echoing,
    endpoint,
    hanging,
    read_all,
    relaying,
    reset,
    resetting,
    routes,
    telling,
)

WEB = "240.240.0.1"
SERVER = "127.0.1.1"
ROUTES = routes({WEB: ("web.internal", [80], [SERVER])})
BLOCK = bytes(range(256)) * 4096


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a relayed connection, in the test's hands."""

    relay: Relaying
    client: socket.socket
    server: socket.socket


@contextlib.contextmanager
def ends(relay: Relaying, pod: Namespace, accepted: list[socket.socket]) -> Iterator[Ends]:
    before = len(accepted)
    with connect(pod, WEB, 80) as client:
        client.sendall(b"?")
        deadline = time.monotonic() + 10
        while len(accepted) == before and time.monotonic() < deadline:
            time.sleep(0.002)
        server = accepted[before]
        assert server.recv(1) == b"?"
        yield Ends(relay, client, server)


@pytest.fixture
def held(pod: Namespace) -> Iterator[Ends]:
    """Give a relayed connection whose endpoint does what the test does."""
    with (
        relaying(pod, ROUTES) as relay,
        endpoint(pod, SERVER, 80, hanging) as accepted,
        ends(relay, pod, accepted) as both,
    ):
        yield both


def fill(sock: socket.socket) -> int:
    """Send until nobody takes more; gives how many bytes were taken."""
    sock.settimeout(0.3)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += sock.send(BLOCK)
    sock.settimeout(10)
    return sent


def read_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, f"ended after {len(data)} of {count} bytes"
        data += piece
    return bytes(data)


@pytest.mark.parametrize("client_first", [True, False], ids=["client first", "endpoint first"])
def test_half_close(held: Ends, *, client_first: bool) -> None:
    """The end of one direction is passed on after its last byte, and the other direction goes on until its own end."""
    first, second = (held.client, held.server) if client_first else (held.server, held.client)
    first.sendall(b"last words")
    first.shutdown(socket.SHUT_WR)
    assert read_all(second) == b"last words"
    for word in (b"I", b"go", b"on"):
        second.sendall(word)
        assert read_exactly(first, len(word)) == word
    second.shutdown(socket.SHUT_WR)
    assert first.recv(10) == b""
    held.relay.until(lambda it: it.counters.open == 0, "closed")
    assert held.relay.lines[0]["end"] == "closed"


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "endpoint"])
def test_a_reset_is_passed_on_as_a_reset(held: Ends, *, by_client: bool) -> None:
    """What was sent before a RST arrives, then the RST, never an ordinary end."""
    first, second = (held.client, held.server) if by_client else (held.server, held.client)
    first.sendall(b"last words")
    assert read_exactly(second, 10) == b"last words"
    reset(first)
    with pytest.raises(ConnectionResetError):
        second.recv(10)
    held.relay.until(lambda it: it.counters.open == 0, "closed")
    assert held.relay.lines[0]["end"] == ("client-reset" if by_client else "endpoint-reset")
    assert held.relay.relay.counters.resets == 1


def test_a_reset_after_a_half_close(held: Ends) -> None:
    """A RST of a side that had ended its direction is still a RST for the other one."""
    held.client.shutdown(socket.SHUT_WR)
    assert held.server.recv(1) == b""
    reset(held.client)
    held.relay.until(lambda it: it.counters.open == 0, "closed")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        held.server.sendall(b"anybody there?")


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "endpoint"])
def test_a_reset_reaches_a_side_that_does_not_read(held: Ends, *, by_client: bool) -> None:
    """A RST is passed on at once also while its direction is full."""
    first, second = (held.client, held.server) if by_client else (held.server, held.client)
    fill(first)
    reset(first)
    held.relay.until(lambda it: it.counters.open == 0, "closed")
    with pytest.raises(ConnectionResetError):
        read_all(second)


@pytest.mark.parametrize("by_client", [True, False], ids=["client", "endpoint"])
def test_back_pressure(held: Ends, *, by_client: bool) -> None:
    """Who sends to somebody that does not read is stopped; later everything arrives, in order. The rest goes on."""
    first, second = (held.client, held.server) if by_client else (held.server, held.client)
    sent = fill(first)
    (pair,) = held.relay.call(lambda: list(held.relay.relay._splicer.pairs))
    assert 0 < max(pair.up.held, pair.down.held) <= 64 * 1024
    second.sendall(b"still here")
    assert read_exactly(first, 10) == b"still here"
    received = read_exactly(second, sent)
    assert hashlib.sha256(received).digest() == hashlib.sha256(_stream(sent)).digest()


def _stream(count: int) -> bytes:
    return (BLOCK * (count // len(BLOCK) + 1))[:count]


def test_what_an_endpoint_does_not_read_does_not_stop_others(pod: Namespace) -> None:
    """Fifty connections that nobody reads from leave the others as they were."""
    with relaying(pod, ROUTES) as relay, endpoint(pod, SERVER, 80, hanging), contextlib.ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(connect(pod, WEB, 80))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    client.send(BLOCK)
        relay.call(lambda: relay.relay.replace(routes({WEB: ("web.internal", [80], ["127.0.1.2"])})))
        with endpoint(pod, "127.0.1.2", 80, echoing), connect(pod, WEB, 80) as live:
            live.sendall(b"hello")
            assert live.recv(10) == b"hello"


def test_idle_connections_are_reset(pod: Namespace) -> None:
    """Without a byte in either direction for the limit both sides are reset; one byte now and then is enough."""
    short = replace(SETTINGS, idle_limit_s=0.5)
    with (
        relaying(pod, ROUTES, short) as relay,
        endpoint(pod, SERVER, 80, hanging) as accepted,
        ends(relay, pod, accepted) as busy,
        ends(relay, pod, accepted) as idle,
    ):
        for _ in range(12):
            time.sleep(0.1)
            busy.server.sendall(b".")
            assert busy.client.recv(1) == b"."
        for sock in (idle.client, idle.server):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        assert relay.relay.counters.idle == 1
        assert relay.lines[0]["end"] == "idle"


def test_an_endpoint_that_closes_at_once(pod: Namespace) -> None:
    """The client sees the end, and what was said before it."""
    with relaying(pod, ROUTES), endpoint(pod, SERVER, 80, telling(b"bye")):
        for _ in range(50):
            with connect(pod, WEB, 80) as client:
                assert read_all(client) == b"bye"


def test_an_endpoint_that_resets_at_once(pod: Namespace) -> None:
    """The client is reset, and the endpoint does not rest: it did answer."""
    with relaying(pod, ROUTES) as relay, endpoint(pod, SERVER, 80, resetting):
        with pytest.raises(ConnectionResetError), connect(pod, WEB, 80) as client:
            client.recv(1)
        relay.until(lambda it: it.counters.open == 0, "closed")
        (health,) = relay.call(lambda: relay.relay.health(ip_address(WEB)))
        assert health.rest_left_s == 0


def test_an_endpoint_that_accepts_and_hangs(held: Ends) -> None:
    """The connection simply stays; who leaves is seen by the other side."""
    held.client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        held.client.recv(1)
    held.client.close()
    assert held.server.recv(1) == b""


def test_urgent_data_does_not_hold_up_what_follows(held: Ends) -> None:
    """Bytes after an urgent one, which cuts a read short, arrive without waiting for more."""
    held.client.sendall(b"before")
    held.client.send(b"!", socket.MSG_OOB)
    held.client.sendall(b"after")
    assert read_exactly(held.server, 11).replace(b"!", b"") == b"beforeafter"


@pytest.mark.parametrize("pipes", [True, False], ids=["spliced", "copied"])
def test_a_large_transfer_arrives_whole(pod: Namespace, *, pipes: bool) -> None:
    """200 MB each way at once keep their checksum, and the process does not grow by what it moves."""
    blocks = 200
    expected = hashlib.sha256()
    for _ in range(blocks):
        expected.update(BLOCK)
    with relaying(pod, ROUTES) as relay, endpoint(pod, SERVER, 80, hanging) as accepted:
        if not pipes:
            relay.call(relay.relay._splicer.shared.pipes.give_up)
        with ends(relay, pod, accepted) as both:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            digests: dict[str, bytes] = {}

            def send(sock: socket.socket) -> None:
                for _ in range(blocks):
                    sock.sendall(BLOCK)
                sock.shutdown(socket.SHUT_WR)

            def receive(name: str, sock: socket.socket) -> None:
                digest = hashlib.sha256()
                while data := sock.recv(1 << 18):
                    digest.update(data)
                digests[name] = digest.digest()

            threads = [
                threading.Thread(target=send, args=(both.client,)),
                threading.Thread(target=send, args=(both.server,)),
                threading.Thread(target=receive, args=("client", both.client)),
                threading.Thread(target=receive, args=("server", both.server)),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert digests == {"client": expected.digest(), "server": expected.digest()}
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB
            assert relay.relay.counters.sent_bytes == blocks * len(BLOCK) + 1
