"""TCP to upstreams, for answers that do not fit a datagram (RFC 7766). door: asyncio, sockets.

A connection for each question: they are rare, and a resolver that closes idle ones early would cost a try otherwise.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from meshdns.resolver.query.exchange import Loss, Try
from meshdns.resolver.query.wire import HEADER_BYTES
from meshdns.resolver.serve.ports import RandomIds, socket_address

CONNECTIONS_MAX: Final = 256
"""At a time; a query that finds no place goes on to the next try."""

_LENGTH_BYTES: Final = 2


class Connections:
    """All of them. `heard` and `lost` are called from the loop, `lost` from within `ask` when there is no place."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        heard: Callable[[Try, bytes], None],
        lost: Callable[[Try, Loss], None],
    ) -> None:
        """Open nothing yet."""
        self._loop = loop
        self._heard = heard
        self._lost = lost
        self._ids = RandomIds()
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, attempt: Try) -> None:
        """Open a connection for the try; it ends with the answer, or when the try is forgotten."""
        if len(self._tasks) >= CONNECTIONS_MAX:
            self._lost(attempt, Loss.NO_TCP)
            return
        task = self._loop.create_task(self._converse(attempt))
        attempt.stop = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()

    async def _converse(self, attempt: Try) -> None:
        """Ask until a message with our id is the answer, or the connection ends."""
        family, peer = socket_address(attempt.server.upstream)
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                await self._loop.sock_connect(sock, peer)
                ident = self._ids.draw().to_bytes(2, "big")
                framed = (len(attempt.message) + len(ident)).to_bytes(_LENGTH_BYTES, "big") + ident + attempt.message
                await self._loop.sock_sendall(sock, framed)
                while not attempt.over:
                    length = int.from_bytes(await self._receive(sock, _LENGTH_BYTES), "big")
                    message = await self._receive(sock, length)
                    if message[:2] == ident and length >= HEADER_BYTES:
                        self._heard(attempt, message)
        except ConnectionRefusedError:
            loss = Loss.REFUSED
        except (OSError, EOFError):
            loss = Loss.NO_TCP
        else:
            return
        attempt.stop = None
        self._lost(attempt, loss)

    async def _receive(self, sock: socket.socket, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = await self._loop.sock_recv(sock, size)
            if not piece:
                raise EOFError
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
