"""DNS over TCP (RFC 7766): length-prefixed queries, pipelined, answered as soon as each answer is there. door: asyncio.

What is answered is decided where it is for UDP. Here stand the rules of the connection: how many there are, how long
one may be idle or take over a message, how many of its queries may be under way, and that a client which does not read
is not read from either.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final, cast

from meshdns.resolver.query.answer import Drop, Forward, Tally, decide
from meshdns.resolver.query.decision import Submit
from meshdns.resolver.query.wire import STREAM_MOST_BYTES
from meshdns.resolver.serve.querylog import Observation, Observe
from meshdns.resolver.table.live import Table

CONNECTIONS_MAX: Final = 128
"""Of all listeners together."""

IDLE_S: Final = 10.0
"""Without a whole message, or without reading, so long (RFC 7766, section 6.2.3: seconds)."""

YIELDS_AFTER_S: Final = 1.0
"""With every connection taken, one that was idle so long makes room for a new one; others are let be."""

UNDER_WAY_MAX: Final = 64
"""Forwarded queries of one connection that wait for their answers; the next ones are read later."""

UNREAD_MAX_BYTES: Final = 256 << 10
"""Replies that a client has not read yet; above that nothing more is read from it. The largest reply is 64 KiB."""

ACCEPTS_PER_TURN: Final = 16
ACCEPT_REST_S: Final = 1.0
"""Without a descriptor left for a new connection, how long to wait for one."""

_LENGTH_BYTES: Final = 2


class StreamCounters:
    """Plain numbers, read when somebody asks. `tally` counts our own replies by type and RCODE (`read_tally`)."""

    accepted = 0
    refused = 0
    displaced = 0
    timed_out = 0
    queries = 0
    forwarded = 0
    short = 0
    responses = 0

    def __init__(self) -> None:
        self.tally: Tally = defaultdict(int)


class StreamListener:
    """Answers on one listening TCP socket, which stays its owner's to close."""

    def __init__(
        self,
        sock: socket.socket,
        table: Callable[[], Table],
        submit: Submit,
        observe: Observe | None = None,
        connections: set[Connection] | None = None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """Take over a listening socket. `table` gives the current table; `submit` takes what is not ours.

        `observe`, if given, is told of each reply. Listeners that are given the same `connections` share the places, of
        which there are `connections_max`.
        """
        sock.setblocking(False)
        self.counters = StreamCounters()
        self.table = table
        self.submit = submit
        self.observe = observe
        self.connections: set[Connection] = set() if connections is None else connections
        self.connections_max = connections_max
        self._sock = sock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arriving: set[asyncio.Task[Any]] = set()
        self._rest: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept connections."""
        self._loop = loop
        self._rest = None
        loop.add_reader(self._sock, self._accept, loop)

    def stop(self) -> None:
        """Accept nothing more, and close what is open once its replies are written."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        loop.remove_reader(self._sock)
        if self._rest is not None:
            self._rest.cancel()
        for task in self._arriving:
            task.cancel()
        for connection in tuple(self.connections):
            if connection.listener is self:
                connection.end()

    def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    loop.remove_reader(self._sock)
                    self._rest = loop.call_later(ACCEPT_REST_S, self.start, loop)
                return
            if not self._has_place(loop.time()):
                self.counters.refused += 1
                sock.close()
                continue
            self.counters.accepted += 1
            sock.setblocking(False)
            connection = Connection(self, loop)
            self.connections.add(connection)
            task = loop.create_task(self._connect(loop, connection, sock))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _connect(self, loop: asyncio.AbstractEventLoop, connection: Connection, sock: socket.socket) -> None:
        try:
            await loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:
            self.connections.discard(connection)
            sock.close()

    def _has_place(self, now: float) -> bool:
        if len(self.connections) < self.connections_max:
            return True
        idlest = min(self.connections, key=lambda connection: connection.progress_s)
        if now - idlest.progress_s < YIELDS_AFTER_S or idlest.under_way:
            return False
        self.counters.displaced += 1
        idlest.abort()
        return True


class Connection(asyncio.Protocol):
    """One client's connection, accepted by `listener`. `progress_s` is when it last did what keeps it alive."""

    def __init__(self, listener: StreamListener, loop: asyncio.AbstractEventLoop) -> None:
        """Start with nothing received."""
        self.progress_s = loop.time()
        self.under_way = 0
        self.listener = listener
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._client: Hashable = None
        self._received = bytearray()
        self._taking = False
        self._unread = False
        self._aborted = False
        self._reading = True
        self._ended = False
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNREAD_MAX_BYTES)
        self._client = transport.get_extra_info("peername")
        self._watch = self._loop.call_at(self.progress_s + IDLE_S, self._look)
        if self._aborted:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a reset is an end like any other
        """Leave; replies still under way go nowhere."""
        self._transport = None
        if self._watch is not None:
            self._watch.cancel()
        self.listener.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take every whole message."""
        self._received += data
        self._take_all()

    def eof_received(self) -> bool:
        """Answer what was asked before the client closed its side, then close."""
        self.end()
        return True

    def pause_writing(self) -> None:
        """Read nothing from a client that does not read."""
        self._unread = True

    def resume_writing(self) -> None:
        """Go on with a client that reads again."""
        self._unread = False
        self._progress()

    def end(self) -> None:
        """Close once everything that was asked is answered."""
        self._ended = True
        self._take_all()

    def abort(self) -> None:
        """Close now."""
        self._aborted = True
        self.listener.connections.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def _take_all(self) -> None:
        """Take messages while there may be more under way; what stays behind waits, and so does the client."""
        if self._taking:
            return  # an answer that was there at once; the loop below goes on
        self._taking = True
        received = self._received
        at = 0
        while not self._is_full() and len(received) - at >= _LENGTH_BYTES:
            end = at + _LENGTH_BYTES + int.from_bytes(received[at : at + _LENGTH_BYTES], "big")
            if len(received) < end:
                break
            packet = bytes(received[at + _LENGTH_BYTES : end])
            at = end
            self._take(packet)
        self._taking = False
        if at:
            del received[:at]
            self.progress_s = self._loop.time()
        self._read_or_not()

    def _take(self, packet: bytes) -> None:
        listener = self.listener
        counters = listener.counters
        counters.queries += 1
        begun_ns = time.perf_counter_ns()
        decision = decide(packet, listener.table(), counters.tally, stream=True)
        told = self._teller(packet, decision, begun_ns) if listener.observe is not None else None
        if isinstance(decision, bytes):
            self._write(decision)
            if told is not None:
                told(decision)
        elif isinstance(decision, Forward):
            counters.forwarded += 1
            self.under_way += 1
            respond = partial(self._answered, packet, decision, told)
            listener.submit(decision.packet, decision, self._client, STREAM_MOST_BYTES, respond)
        elif decision is Drop.SHORT:
            counters.short += 1
        else:
            counters.responses += 1

    def _teller(self, packet: bytes, decision: bytes | Forward | Drop, begun_ns: int) -> Callable[[bytes], None]:
        """Return what tells the listener's observer of the reply to a packet that has just been decided on."""
        decided_ns = time.perf_counter_ns() - begun_ns
        observe, client = self.listener.observe, self._client
        asked = decision.query if isinstance(decision, Forward) else None

        def told(reply: bytes) -> None:
            if observe is not None:
                total_ns = time.perf_counter_ns() - begun_ns
                observe(Observation("tcp", client, packet, reply, decided_ns, total_ns, asked))

        return told

    def _answered(
        self, packet: bytes, forward: Forward, told: Callable[[bytes], None] | None, upstream_reply: bytes
    ) -> None:
        self.under_way -= 1
        if self._transport is None:
            return
        reply = forward.complete(packet, upstream_reply)
        self._write(reply)
        if told is not None:
            told(reply)
        if not self._unread:
            self._progress()

    def _progress(self) -> None:
        self.progress_s = self._loop.time()
        self._take_all()

    def _write(self, reply: bytes) -> None:
        if self._transport is not None:
            self._transport.write(len(reply).to_bytes(_LENGTH_BYTES, "big") + reply)

    def _is_full(self) -> bool:
        return self._unread or self.under_way >= UNDER_WAY_MAX or self._transport is None

    def _read_or_not(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._ended and not self.under_way and not self._unread:
            transport.close()
            return
        reading = not self._is_full() and not self._ended
        if reading != self._reading:
            self._reading = reading
            (transport.resume_reading if reading else transport.pause_reading)()

    def _look(self) -> None:
        """Close the connection if nothing went on for too long, else look again when that could be."""
        if self._loop.time() - self.progress_s < IDLE_S:
            self._watch = self._loop.call_at(self.progress_s + IDLE_S, self._look)
            return
        self.listener.counters.timed_out += 1
        self.abort()
