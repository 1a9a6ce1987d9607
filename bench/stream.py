"""TCP to measure relays with: an endpoint that sends or echoes, and a client that counts. door: sockets.

    python -m bench.stream serve ADDRESS SOURCE-PORT ECHO-PORT
    python -m bench.stream throughput ADDRESS PORT CONNECTIONS SECONDS     prints bytes/s
    python -m bench.stream connect ADDRESS PORT CONNECTIONS SECONDS        prints connections/s
    python -m bench.stream echo ADDRESS PORT 1 SECONDS                     prints the p50 of a round trip, s

Both ends spare themselves what they can (sendfile from memory; MSG_TRUNC, which drops bytes without copying them), so
that the relay between them is what takes the time.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import time
from typing import Final

from bench.figures import percentile

CHUNK_BYTES: Final = 1 << 20
WARM_UP_S: Final = 0.2
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_GREETING: Final = b"."

Peers = dict[int, tuple[socket.socket, int]]
"""Connected sockets by descriptor, with the event that each waits for."""


def serve(address: str, source_port: int, echo_port: int) -> None:
    """Send without end on one port, echo on the other, until killed."""
    memory = os.memfd_create("source")
    os.truncate(memory, CHUNK_BYTES)
    poll = select.epoll()
    listeners = {}
    for port, event in ((source_port, select.EPOLLOUT), (echo_port, select.EPOLLIN)):
        listener = socket.create_server((address, port), backlog=4096)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener, event
        poll.register(listener.fileno(), select.EPOLLIN)
    peers: Peers = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in listeners:
                _accept(*listeners[descriptor], peers, poll)
                continue
            sock, event = peers[descriptor]
            if not (_send(sock, memory) if event == select.EPOLLOUT else _echo(sock)):
                del peers[descriptor]
                sock.close()


def _accept(listener: socket.socket, event: int, peers: Peers, poll: select.epoll) -> None:
    with contextlib.suppress(OSError):
        sock, _ = listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peers[sock.fileno()] = sock, event
        poll.register(sock.fileno(), event)


def _send(sock: socket.socket, memory: int) -> bool:
    try:
        os.sendfile(sock.fileno(), memory, 0, CHUNK_BYTES)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _echo(sock: socket.socket) -> bool:
    try:
        data = sock.recv(4096)
        return bool(data) and sock.send(data) > 0
    except BlockingIOError:
        return True
    except OSError:
        return False


def throughput(address: str, port: int, connections: int, seconds: float) -> float:
    """Receive on all connections at once; return bytes per second."""
    scratch = bytearray(CHUNK_BYTES)
    poll = select.epoll()
    socks = {}
    for _ in range(connections):
        sock = socket.create_connection((address, port), timeout=5)
        sock.setblocking(False)
        socks[sock.fileno()] = sock
        poll.register(sock.fileno(), select.EPOLLIN)
    moved = 0
    began = time.perf_counter() + WARM_UP_S
    while (now := time.perf_counter()) < began + seconds:
        for descriptor, _ in poll.poll(1.0):
            received = socks[descriptor].recv_into(scratch, CHUNK_BYTES, socket.MSG_TRUNC)
            if not received:
                raise SystemExit("a connection has ended")
            moved += received if now >= began else 0
    return moved / (now - began)


def connect(address: str, port: int, connections: int, seconds: float) -> float:
    """Connect, exchange a byte and close, so many at once; return connections per second."""
    poll = select.epoll()
    under_way: dict[int, socket.socket] = {}
    done = 0
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        while len(under_way) < connections:
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((address, port))
            under_way[sock.fileno()] = sock
            poll.register(sock.fileno(), select.EPOLLOUT)
        for descriptor, event in poll.poll(1.0):
            sock = under_way[descriptor]
            if event & select.EPOLLOUT:
                sock.send(_GREETING)
                poll.modify(descriptor, select.EPOLLIN)
                continue
            if sock.recv(1) != _GREETING:
                raise SystemExit("a connection was refused its answer")
            del under_way[descriptor]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            sock.close()
            done += 1
    return done / (now - began)


def echo(address: str, port: int, _connections: int, seconds: float) -> float:
    """Send 64 bytes and wait for them, again and again; return the p50 in seconds."""
    message = b"x" * 64
    took = []
    with socket.create_connection((address, port), timeout=5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.perf_counter() + seconds
        while (sent := time.perf_counter()) < until:
            sock.sendall(message)
            left = len(message)
            while left:
                left -= len(sock.recv(left))
            took.append(time.perf_counter() - sent)
    return percentile(took, 50)


MEASURES: Final = {"throughput": throughput, "connect": connect, "echo": echo}

if __name__ == "__main__":
    command, where = sys.argv[1], sys.argv[2]
    if command == "serve":
        serve(where, int(sys.argv[3]), int(sys.argv[4]))
    print(MEASURES[command](where, int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
