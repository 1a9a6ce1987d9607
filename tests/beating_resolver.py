"""A stand-in for the resolver, run as a program of its own so that it can be stopped and killed: root gives the uid.

Answers whatever comes by UDP or TCP to 127.0.0.1 and ::1, port 15053, with `resolver`; sends its heartbeat twice a
second. It beats from the same loop that answers, so a process that hangs does neither.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time

PORT = 15053
BEAT_EVERY_S = 0.5


def main() -> None:
    """Serve until killed; writes one line when everything is open."""
    # Here and not by whoever starts us: the interpreter may lie where only root can read it.
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
    selector = selectors.DefaultSelector()
    beats = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        datagrams.bind((address, PORT))
        selector.register(datagrams, selectors.EVENT_READ, False)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen(128)
        selector.register(listener, selectors.EVENT_READ, True)
        beats.append((socket.socket(family, socket.SOCK_DGRAM), (address, PORT)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    next_beat = 0.0
    while True:
        if time.monotonic() >= next_beat:
            next_beat = time.monotonic() + BEAT_EVERY_S
            for sender, target in beats:
                sender.sendto(b"", target)
        for key, _ in selector.select(0.1):
            serve(key.fileobj, stream=key.data)


def serve(source: object, *, stream: bool) -> None:
    """Answer one datagram, or one connection's first bytes."""
    if not isinstance(source, socket.socket):
        return
    if stream:
        connection, _ = source.accept()
        with connection:
            connection.sendall(b"resolver")
        return
    packet, client = source.recvfrom(512)
    if packet:
        source.sendto(b"resolver", client)


if __name__ == "__main__":
    main()
