"""The admin port: a small HTTP server for people, kubelet and Prometheus. GET only, one request a connection.

What the paths answer is decided by the handlers it is given. Here stand only the rules of the door: who may ask what,
and how long and how large a request may be. HTTP/1.1 by RFC 9112; every reply ends with the connection.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from meshdns.resolver.errors import PreflightError
from meshdns.resolver.serve.address import SocketAddress

MAX_HEAD_BYTES: Final = 8192
"""A request's first line and headers; what nginx and Apache allow for one line."""
MAX_REQUEST_S: Final = 5.0
MAX_REPLY_S: Final = 60.0
MAX_CONNECTIONS: Final = 64
MAX_PARAMETERS: Final = 16

OPEN_PATHS: Final = frozenset({"/metrics", "/healthz", "/readyz"})
"""What others than this machine may read; every other path is 404 for them."""


class Response(NamedTuple):
    """What a handler answers. `body` may be an iterator of pieces, so that a large one never holds up the loop."""

    body: bytes | AsyncIterator[bytes]
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[Mapping[str, str]], Awaitable[Response]]
"""Gets the request's query parameters, each at most once (the last one counts)."""


def as_json(value: Any, status: int = 200) -> Response:  # noqa: ANN401 - whatever json.dumps takes
    """Return `value` as a JSON response, ended by a newline for people who use curl."""
    return Response(json.dumps(value, indent=2).encode() + b"\n", status, "application/json")


async def in_pieces(items: Iterable[Any], per_turn: int = 50) -> AsyncIterator[bytes]:
    """Yield a JSON array of `items`, `per_turn` of them for each turn of the loop."""
    yield b"["
    piece: list[str] = []
    separator = ""
    for item in items:
        piece.append(separator + json.dumps(item))
        separator = ",\n"
        if len(piece) == per_turn:
            yield "".join(piece).encode()
            piece.clear()
            await asyncio.sleep(0)
    yield "".join(piece).encode() + b"]\n"


async def late_import(name: str) -> Any:  # noqa: ANN401 - a module
    """Import a module that answering does without, in a thread, so that no lookup waits for it."""
    return sys.modules.get(name) or await asyncio.to_thread(importlib.import_module, name)


class AdminServer:
    """Serves what `handlers` gives, a mapping from path to handler, on one address. It is asked with each request."""

    def __init__(self, handlers: Callable[[], Awaitable[Mapping[str, Handler]]]) -> None:
        self._handlers = handlers
        self._open = 0
        self._server: asyncio.Server | None = None

    async def start(self, at: SocketAddress) -> None:
        """Listen; raises PreflightError when the address cannot be had."""
        try:
            self._server = await asyncio.start_server(self._serve, str(at.address), at.port, limit=MAX_HEAD_BYTES)
        except OSError as error:
            # asyncio's own text names the address once more.
            cause = os.strerror(error.errno) if error.errno else error
            raise PreflightError(f"cannot listen on {at} for --admin: {cause}: give another") from error

    async def stop(self) -> None:
        """Close the listener; replies under way are let go."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS:
                async with asyncio.timeout(MAX_REQUEST_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                async with asyncio.timeout(MAX_REPLY_S):
                    await self._reply(head, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()  # gone, too slow or too large: there is nobody to tell
        finally:
            self._open -= 1
            writer.close()

    async def _reply(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        from http import HTTPStatus  # noqa: PLC0415 - a start does without

        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        if method in {"GET", "HEAD"}:
            response = await self._answer(rest.partition(" ")[0], writer)
        else:
            response = Response(b"only GET is served\n", HTTPStatus.METHOD_NOT_ALLOWED)
        reason = HTTPStatus(response.status).phrase
        writer.write(
            f"HTTP/1.1 {int(response.status)} {reason}\r\nContent-Type: {response.content_type}\r\n"
            "Connection: close\r\nCache-Control: no-store\r\n\r\n".encode()
        )
        if method == "GET":
            await _send_body(response.body, writer)
        await writer.drain()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> Response:
        from http import HTTPStatus  # noqa: PLC0415 - as above

        try:
            url = urlsplit(target)
            parameters = dict(parse_qsl(url.query, max_num_fields=MAX_PARAMETERS))
        except ValueError:  # a bracket that nothing closes, or more parameters than there can be
            return Response(b"cannot read the request's target\n", HTTPStatus.BAD_REQUEST)
        handlers = await self._handlers()
        if url.path in handlers and (url.path in OPEN_PATHS or _is_loopback(writer.get_extra_info("peername"))):
            return await handlers[url.path](parameters)
        return Response(b"not found\n", HTTPStatus.NOT_FOUND)


async def _send_body(body: bytes | AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    if isinstance(body, bytes):
        writer.write(body)
        return
    async for piece in body:
        writer.write(piece)
        await writer.drain()


def _is_loopback(peer: tuple[Any, ...] | None) -> bool:
    if peer is None:  # gone before it could be asked who it is
        return False
    address = ip_address(peer[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
