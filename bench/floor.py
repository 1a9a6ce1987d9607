"""The floor under any answer given from Python: the calls of `serve.datagram` with nothing decided in between.

Packets are received and replies sent by the same calls, in the same loop and in the same order as in the resolver;
every reply is the same bytes behind the query's id. Run as `python -m bench.floor PORT QUERY-IN-HEX`.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from meshdns.resolver.serve.batch import Batch
from meshdns.resolver.serve.datagram import LOOK_EVERY, PACKET_BYTES, RECEIVE_BUFFER_BYTES
from meshdns.resolver.serve.loop import AnsweringLoop

_FLAGS = b"\x85\x80"
_RECORD = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x01"
_OPT_BYTES = 11


class Floor:
    """Answers without looking."""

    def __init__(self, sock: socket.socket, rest: bytes) -> None:
        """`rest` is what follows the id."""
        self._sock = sock
        self._batch = Batch(sock)
        self._rest = rest
        self._waiting = False
        self._until_look = LOOK_EVERY

    def turn(self) -> None:
        """Answer one packet, or as many as wait."""
        if self._waiting:
            self._many()
            return
        try:
            packet, client = self._sock.recvfrom(PACKET_BYTES)
        except OSError:
            return
        self._until_look -= 1
        self._sock.sendto(packet[:2] + self._rest, client)
        if not self._until_look:
            self._until_look = LOOK_EVERY
            self._many()

    def _many(self) -> None:
        batch, rest = self._batch, self._rest
        packets, replies, names = batch.packets, batch.replies, batch.names
        reply_names, reply_sizes = batch.reply_names, batch.reply_sizes
        sizes = batch.receive()
        count = 0
        for slot, size in enumerate(sizes):
            start = slot << 16
            packet = packets[start : start + size]  # as recvfrom would give it
            reply = packet[:2] + rest
            length = len(reply)
            at = count << 12
            replies[at : at + length] = reply
            reply_sizes[count] = length
            reply_names[count] = names[slot]
            count += 1
        if count:
            batch.send(count)
        self._waiting = count > 1


def canned(query: bytes) -> bytes:
    """Return a reply to a query, without its id: one address, and the OPT if there is one."""
    has_opt = query[11] == 1
    end = len(query) - _OPT_BYTES if has_opt else len(query)
    counts = b"\0\1\0\1\0\0" + bytes([0, int(has_opt)])
    return _FLAGS + counts + query[12:end] + _RECORD + query[end:]


async def _serve(port: int, query: bytes) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, AnsweringLoop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind(("127.0.0.1", port))
        sock.setblocking(False)
        loop.add_turn(sock.fileno(), Floor(sock, canned(query)).turn)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=AnsweringLoop) as runner:
        runner.run(_serve(int(sys.argv[1]), bytes.fromhex(sys.argv[2])))
