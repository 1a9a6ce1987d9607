"""The UDP sockets that one upstream is asked through. door: sockets, random numbers.

Each is connected, so the kernel drops what comes from anybody else and tells us when nobody listens there; each has a
port of the kernel's choice and carries a bounded number of queries under random ids (RFC 5452, section 9.2). A socket
per query would be as safe and costs four system calls more.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final

from meshdns.resolver.query.exchange import Loss, Try
from meshdns.resolver.query.servers import Upstream
from meshdns.resolver.query.wire import HEADER_BYTES
from meshdns.resolver.serve.loop import AnsweringLoop

QUERIES_PER_PORT: Final = 64
PORT_LIFE_S: Final = 10.0
"""Whoever finds out a port (by guessing, or through ICMP rate limits) has no longer than this to use it."""

RECEIVE_MAX_BYTES: Final = 65535
"""We offer 1232; a server that sends more is broken, and what it sends is still read whole."""

READS_PER_TURN: Final = 64
"""Of one socket, before others get their turn."""

_IDS_PER_DRAW: Final = 256
_NO_ID: Final = -1


class Port:
    """One connected socket, and the tries that wait for a message under their id."""

    __slots__ = ("own", "sock", "until_s", "used", "waiting")

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.own: Any = sock.getsockname()
        self.waiting: dict[int, Try] = {}
        self.used = 0
        self.until_s = now + PORT_LIFE_S


class Ports:
    """All sockets to one upstream. `heard` and `lost` are called from the loop, never from within `send`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        upstream: Upstream,
        own_addresses: set[Hashable],
        heard: Callable[[Try, bytes], None],
        lost: Callable[[Try, Loss], None],
    ) -> None:
        """Open nothing yet. The addresses of open sockets are added to `own_addresses`, and taken out again."""
        self.strangers = 0  # messages under an id that nobody waits for: late, twice, or forged
        self._loop = loop
        self._family, self._peer = socket_address(upstream)
        self._own_addresses = own_addresses
        self._heard = heard
        self._lost = lost
        self._current: Port | None = None
        self._ports: dict[Any, Port] = {}
        self._ids = RandomIds()

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return bool(self._ports)

    def owns(self, address: object) -> bool:
        """Whether a socket here is bound to this address (as `getsockname` and `recvfrom` give it)."""
        return address in self._ports

    def send(self, attempt: Try, now: float) -> Loss | None:
        """Send the try's message; return why that cannot be."""
        port = self._current
        if port is None or port.used >= QUERIES_PER_PORT or now >= port.until_s:
            port = self._next_port(now)
            if port is None:
                return Loss.UNREACHABLE
        ident = self._ids.draw()
        while ident in port.waiting:
            ident = self._ids.draw()
        message = ident.to_bytes(2, "big") + attempt.message
        try:
            port.sock.send(message)
        except OSError as error:
            loss = self._sent_again(port, message, error)
            if loss is not None:
                return loss
        port.used += 1
        port.waiting[ident] = attempt
        attempt.stop = partial(self.forget, port, ident)
        return None

    def forget(self, port: Port, ident: int) -> None:
        """Wait no more for what comes under this id."""
        if port.waiting.pop(ident, None) is not None and not port.waiting and port is not self._current:
            self._close(port)

    def retire(self) -> None:
        """Send nothing more from here, and close each socket when nobody waits for it."""
        current, self._current = self._current, None
        if current is not None and not current.waiting:
            self._close(current)

    def close(self) -> None:
        """Close every socket."""
        self._current = None
        for port in tuple(self._ports.values()):
            self._close(port)

    def _sent_again(self, port: Port, message: bytes, error: OSError) -> Loss | None:
        """Send once more what did not go out if the error was about an earlier message; return why that cannot be."""
        if not isinstance(error, ConnectionRefusedError):
            return Loss.UNREACHABLE
        self._loop.call_soon(self._refused, port, tuple(port.waiting))
        try:
            port.sock.send(message)
        except ConnectionRefusedError:
            return Loss.REFUSED
        except OSError:
            return Loss.UNREACHABLE
        return None

    def _next_port(self, now: float) -> Port | None:
        """Return a new socket to send from; when none can be opened, the one that should have been replaced."""
        port = self._current
        opened = self._open(now)
        if opened is None:
            return port
        self._current = opened
        if port is not None and not port.waiting:
            self._close(port)
        return opened

    def _open(self, now: float) -> Port | None:
        try:
            sock = socket.socket(self._family, socket.SOCK_DGRAM)
        except OSError:
            return None
        try:
            sock.setblocking(False)
            sock.connect(self._peer)
        except OSError:
            sock.close()
            return None
        port = Port(sock, now)
        self._ports[port.own] = port
        self._own_addresses.add(port.own)
        if isinstance(self._loop, AnsweringLoop):
            self._loop.add_turn(sock.fileno(), partial(self._readable, port))
        else:
            self._loop.add_reader(sock, self._readable, port)
        return port

    def _close(self, port: Port) -> None:
        if self._ports.pop(port.own, None) is not None:
            self._own_addresses.discard(port.own)
            if isinstance(self._loop, AnsweringLoop):
                self._loop.remove_turn(port.sock.fileno())
            else:
                self._loop.remove_reader(port.sock)
            port.sock.close()

    def _readable(self, port: Port) -> None:
        """Take what came."""
        waiting, receive = port.waiting, port.sock.recv
        for _ in range(READS_PER_TURN):
            try:
                message = receive(RECEIVE_MAX_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self._refused(port, tuple(waiting))
                break
            ident = message[0] << 8 | message[1] if len(message) >= HEADER_BYTES else _NO_ID
            attempt = waiting.get(ident)
            if attempt is None:
                self.strangers += 1
                continue
            self._heard(attempt, message)
            if attempt.over:
                self.forget(port, ident)
                if not waiting:
                    return

    def _refused(self, port: Port, idents: tuple[int, ...]) -> None:
        """Nobody listens there, says ICMP; it does not say which query it means, so it means all that are open."""
        for ident in idents:
            attempt = port.waiting.get(ident)
            if attempt is not None and not attempt.over:
                self._lost(attempt, Loss.REFUSED)
                self.forget(port, ident)


def socket_address(upstream: Upstream) -> tuple[socket.AddressFamily, Any]:
    """Return family and address for `connect`; an interface that does not exist makes a later `connect` fail."""
    host, port = str(upstream.address), upstream.port
    if upstream.address.version == 4:  # noqa: PLR2004 - IPv4
        return socket.AF_INET, (host, port)
    return socket.AF_INET6, (host, port, 0, _interface_index(upstream.interface))


class RandomIds:
    """Message ids from the kernel's random numbers, drawn many at a time."""

    __slots__ = ("_drawn",)

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._drawn: list[int] = []

    def draw(self) -> int:
        """Return an id, 0 to 65535."""
        if not self._drawn:
            self._drawn = memoryview(os.urandom(2 * _IDS_PER_DRAW)).cast("H").tolist()
        return self._drawn.pop()


def _interface_index(interface: str | None) -> int:
    if interface is None:
        return 0
    if interface.isdecimal():
        return int(interface)
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0
