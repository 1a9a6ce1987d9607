"""Door: sockets. Packets that verification really sends, as whoever they are to be from, and who answered them.

What is sent and what an answer means is `checks.py`'s; here is only the sending. All probes of a
round are under way together, because those that must not be answered take the whole time. A socket's owner, to every
owner match of netfilter, is the file system uid and gid of the thread that made it: setfsuid(2) changes them for one
thread and leaves the rest of the process alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.spec import Address, Family
from meshdns.capture.prove.exchange import Fault, Probe, Reply, Sender

ROUND_S: Final = 2.0
"""How long a round of probes waits for its answers."""
RESEND_S: Final = 0.6
"""A datagram may be lost to a full buffer; glibc's own stub would wait 5 s."""
MAX_OPEN: Final = 200
"""Probes under way at once; the usual limit of descriptors is 1024."""
MAX_ANSWER_BYTES: Final = 4096

SO_MARK: Final = 36
"""asm-generic/socket.h"""
KEEP_ID: Final = -1
"""setfsuid(2): an id that is never valid changes nothing and returns the current one."""
_REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.EPERM, errno.EACCES, errno.EPIPE})
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENETDOWN})


def send_all(probes: Sequence[Probe], wait_s: float = ROUND_S) -> list[Reply]:
    """Send every probe and return its reply, in order; takes `wait_s` for each MAX_OPEN probes that stay unanswered."""
    replies: list[Reply] = []
    for start in range(0, len(probes), MAX_OPEN):
        replies += _round(probes[start : start + MAX_OPEN], wait_s)
    return replies


def can_be(sender: Sender) -> bool:
    """Return whether packets can be sent as `sender`."""
    try:
        with _acting_as(sender), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            if sender.mark is not None:
                made.setsockopt(socket.SOL_SOCKET, SO_MARK, sender.mark)
    except PermissionError:
        return False
    return True


@contextlib.contextmanager
def greeting(addresses: Sequence[Address], words: bytes) -> Iterator[dict[Address, int]]:
    """Say `words` to whoever connects, for the length of a block; gives the port at each address that exists."""
    listeners = {}
    for address in addresses:
        with contextlib.suppress(OSError):
            listeners[address] = socket.create_server((str(address), 0), family=_family(address))
    stopping = socket.socketpair()
    thread = threading.Thread(target=_greet, args=(tuple(listeners.values()), stopping[0], words), daemon=True)
    thread.start()
    try:
        yield {address: listener.getsockname()[1] for address, listener in listeners.items()}
    finally:
        stopping[1].close()
        thread.join()
        for made in (*listeners.values(), stopping[0]):
            made.close()


def _greet(listeners: tuple[socket.socket, ...], stopping: socket.socket, words: bytes) -> None:
    with selectors.DefaultSelector() as selector:
        for readable in (*listeners, stopping):
            selector.register(readable, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is stopping:
                    return
                with contextlib.suppress(OSError):
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                    with connection:
                        connection.sendall(words)


@dataclass(slots=True, eq=False)
class _Attempt:
    """A probe under way."""

    probe: Probe
    socket: socket.socket | None = None
    unsent: bytes = b""
    received: bytearray = field(default_factory=bytearray)
    reply: Reply | None = None

    @property
    def stream(self) -> bool:
        return self.probe.protocol is Protocol.TCP

    def finish(self, data: bytes = b"", fault: Fault | None = None, detail: str = "") -> None:
        port = 0
        if self.socket:
            with contextlib.suppress(OSError):
                port = self.socket.getsockname()[1]
            self.socket.close()
            self.socket = None
        self.reply = Reply(data, fault, detail, port)

    def fail(self, error: OSError) -> None:
        number = error.errno or 0
        fault = Fault.REFUSED if number in _REFUSED else Fault.NO_ROUTE if number in _NO_ROUTE else Fault.SILENT
        self.finish(fault=fault, detail=os.strerror(number).lower())


def _round(probes: Sequence[Probe], wait_s: float) -> list[Reply]:
    attempts = [_Attempt(probe) for probe in probes]
    with selectors.DefaultSelector() as selector:
        for attempt in attempts:
            _start(attempt)
            if attempt.socket:
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if attempt.stream else 0)
                selector.register(attempt.socket, events, attempt)
        _wait(selector, wait_s)
    for attempt in attempts:
        if attempt.reply is None:
            attempt.finish(fault=Fault.SILENT)
    return [attempt.reply or Reply() for attempt in attempts]


def _start(attempt: _Attempt) -> None:
    try:
        attempt.socket = _open(attempt.probe)
    except PermissionError as error:
        attempt.finish(fault=Fault.NOT_PERMITTED, detail=str(error))
        return
    except OSError as error:
        attempt.fail(error)
        return
    try:
        attempt.socket.connect(_target(attempt.probe))
        if not attempt.stream:
            attempt.socket.send(attempt.probe.payload)
    except BlockingIOError:
        pass  # a TCP connection on its way
    except OSError as error:
        attempt.fail(error)
        return
    attempt.unsent = attempt.probe.payload if attempt.stream else b""
    if not attempt.probe.answered and not attempt.stream:
        attempt.finish()


def _open(probe: Probe) -> socket.socket:
    kind = socket.SOCK_STREAM if probe.protocol is Protocol.TCP else socket.SOCK_DGRAM
    with _acting_as(probe.sender):
        made = socket.socket(_family(probe.destination), kind | socket.SOCK_NONBLOCK)
    try:
        if probe.sender.mark is not None:
            made.setsockopt(socket.SOL_SOCKET, SO_MARK, probe.sender.mark)
        if probe.interface:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, probe.interface.encode() + b"\0")
        if probe.source_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("", probe.source_port))
    except BaseException:  # whatever it is goes on, ^C as well, without a socket left open
        made.close()
        raise
    return made


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if Family.of(address) is Family.IPV4 else socket.AF_INET6


def _target(probe: Probe) -> tuple[str, int] | tuple[str, int, int, int]:
    if probe.interface and _family(probe.destination) == socket.AF_INET6:
        return str(probe.destination), probe.port, 0, socket.if_nametoindex(probe.interface)
    return str(probe.destination), probe.port


def _wait(selector: selectors.BaseSelector, wait_s: float) -> None:
    """Serve the attempts until each has its reply or the time is up."""
    deadline = time.monotonic() + wait_s
    resend_at = time.monotonic() + RESEND_S
    while selector.get_map() and (left := deadline - time.monotonic()) > 0:
        for key, events in selector.select(max(min(left, resend_at - time.monotonic()), 0)):
            attempt: _Attempt = key.data
            try:
                _proceed(attempt, selector, events)
            except BlockingIOError:
                continue
            except OSError as error:
                attempt.fail(error)
            if attempt.reply:
                selector.unregister(key.fileobj)
        if time.monotonic() >= resend_at:
            resend_at = deadline
            _resend(selector)


def _proceed(attempt: _Attempt, selector: selectors.BaseSelector, events: int) -> None:
    if attempt.socket is None:
        return
    if events & selectors.EVENT_WRITE:
        failure = attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, os.strerror(failure))
        if not attempt.probe.answered:
            attempt.finish()
            return
        attempt.unsent = attempt.unsent[attempt.socket.send(attempt.unsent) :] if attempt.unsent else b""
        if not attempt.unsent:
            selector.modify(attempt.socket, selectors.EVENT_READ, attempt)
    if events & selectors.EVENT_READ:
        data = attempt.socket.recv(MAX_ANSWER_BYTES)
        attempt.received += data
        if not attempt.stream or not data or _is_whole(attempt):
            attempt.finish(bytes(attempt.received))


def _is_whole(attempt: _Attempt) -> bool:
    """Return whether a stream has said all: a DNS message of the length in front (RFC 1035, 4.2.2), or one line."""
    received = attempt.received
    if len(received) >= MAX_ANSWER_BYTES:
        return True
    if not attempt.probe.payload:
        return received.endswith(b"\n")
    return len(received) > 1 and len(received) - 2 >= struct.unpack_from("!H", received)[0]


def _resend(selector: selectors.BaseSelector) -> None:
    for key in selector.get_map().values():
        attempt: _Attempt = key.data
        if not attempt.stream and attempt.socket:
            with contextlib.suppress(OSError):
                attempt.socket.send(attempt.probe.payload)


@contextlib.contextmanager
def _acting_as(sender: Sender) -> Iterator[None]:
    """Make sockets as `sender` for the length of a block; PermissionError where the kernel says no."""
    libc = ctypes.CDLL(None)
    try:
        for change, wanted in ((libc.setfsgid, sender.gid), (libc.setfsuid, sender.uid)):
            if wanted is not None:
                change(wanted)
                if ctypes.c_uint(change(KEEP_ID)).value != wanted:
                    raise PermissionError(errno.EPERM, f"cannot act as uid {sender.uid}, gid {sender.gid}")
        yield
    finally:
        libc.setfsuid(os.geteuid())
        libc.setfsgid(os.getegid())
