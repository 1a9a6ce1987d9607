"""Very many TCP connections at once, as programs of their own: who holds the relay's descriptors holds no others.

    python storm.py serve ADDRESS PORT                  echo one byte on each connection; says "ready"
    python storm.py connect SOURCE ADDRESS PORT COUNT   connect so often at once, send a byte, wait for it

`connect` keeps what was answered open until its standard input ends; from then on it closes each connection once it is
answered. When nothing happens any more, it says in JSON how many were answered, how many still wait, and how many ended
with each error (by its name, errno(3)).
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import sys

BYTE = b"."
BACKLOG = 4096
CONNECTS_AT_ONCE = 64
QUIET_S = 4.0
"""When nothing has happened for this long, what is left waits for the kernel's next try, which may be a minute off."""

IP_BIND_ADDRESS_NO_PORT = 24
"""Choose the port when the destination is known, ip(7): Python has no name for it before 3.12."""


def serve(address: str, port: int) -> None:
    """Echo one byte on each connection and keep it until the client ends it; until killed."""
    listener = socket.create_server((address, port), backlog=BACKLOG)
    listener.setblocking(False)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        connection, _ = listener.accept()
                        connection.setblocking(False)
                        connections[connection.fileno()] = connection
                        poll.register(connection, select.EPOLLIN)
                continue
            try:
                data = connections[descriptor].recv(1)
                if data:
                    connections[descriptor].send(data)
            except OSError:
                data = b""
            if not data:
                connections.pop(descriptor).close()


def connect(source: str, address: str, port: int, count: int) -> None:
    """Connect `count` times and say what came of it."""
    poll = select.epoll()
    poll.register(sys.stdin, select.EPOLLIN)
    told_to_close = False
    started = answered = 0
    errors: dict[str, int] = {}
    waiting: dict[int, socket.socket] = {}
    kept: list[socket.socket] = []
    while waiting or started < count or not told_to_close:
        for _ in range(min(CONNECTS_AT_ONCE, count - started)):
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
            sock.connect_ex((address, port))
            waiting[sock.fileno()] = sock
            poll.register(sock, select.EPOLLOUT)
            started += 1
        events = poll.poll(0 if started < count else QUIET_S if told_to_close else None)
        if not events and started == count:
            break
        for descriptor, event in events:
            if descriptor == sys.stdin.fileno():
                told_to_close = True
                poll.unregister(sys.stdin)
                kept.clear()
                continue
            sock = waiting[descriptor]
            try:
                if event == select.EPOLLOUT:
                    sock.send(BYTE)
                    poll.modify(descriptor, select.EPOLLIN)
                    continue
                came = sock.recv(1) == BYTE
            except OSError as error:
                came = False
                name = errno.errorcode[error.errno or 0]
                errors[name] = errors.get(name, 0) + 1
            poll.unregister(descriptor)
            del waiting[descriptor]
            answered += came
            if not told_to_close:
                kept.append(sock)
    json.dump({"answered": answered, "waiting": len(waiting), **errors}, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    connect(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
