"""DNS over UDP: packets are read, decided and answered in the loop's own thread, without a task. door: sockets.

One packet is read with recvfrom, for at one query at a time a batch costs more than it saves; where packets wait, up to
`batch.SLOTS` of them are read and answered with two system calls. Either way one turn does a bounded piece of work, so
that timers and other sockets get theirs.
"""

from __future__ import annotations

import socket
import struct
import time
from asyncio import AbstractEventLoop
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from meshdns.resolver.query.answer import Drop, Forward, Tally, at_once, by_order, decide
from meshdns.resolver.query.decision import Submit
from meshdns.resolver.query.plain import Plain
from meshdns.resolver.serve.loop import AnsweringLoop
from meshdns.resolver.serve.querylog import Observation, Observe
from meshdns.resolver.table.live import Table

if TYPE_CHECKING:
    from meshdns.resolver.serve.batch import Batch

PACKET_BYTES: Final = 65535
"""The largest UDP payload there can be."""

RECEIVE_BUFFER_BYTES: Final = 1 << 20
"""The default holds 193 small queries: a burst of 256 lost 63, each a wait of 5 s in a stub (NSD asks for 1 MiB)."""

LOOK_EVERY: Final = 16
"""While packets come one by one, every how many turns to look whether others wait."""

_SO_MEMINFO: Final = 55  # include/uapi/asm-generic/socket.h
_MEMINFO: Final = struct.Struct("=9I")
_MEMINFO_DROPS: Final = 8  # SK_MEMINFO_DROPS, include/uapi/linux/sock_diag.h

Client = tuple[Any, ...]
Look = Callable[[bytes, Table, float], bytes | Plain | None]
"""(packet, table, time.monotonic()) -> the reply that the cache has, or a query to be asked, or None: parse it."""


class Fast(Protocol):
    """Forwarding's fast path: what it takes is not parsed here."""

    @property
    def look(self) -> Look:
        """See `Look`."""

    def ask(self, plain: Plain, client: Client, send: Callable[[Client, bytes], None]) -> None:
        """Ask what `look` found for `client`; `send` gets its finished reply."""


class _Spent(NamedTuple):
    begun_ns: int
    decided_ns: int


class DatagramCounters:
    """Plain numbers, read when somebody asks. `tally` counts our own replies by type and RCODE (`read_tally`)."""

    forwarded = 0
    heartbeats = 0
    short = 0
    responses = 0
    unsent = 0
    batches = 0

    def __init__(self) -> None:
        self.tally: Tally = defaultdict(int)


class DatagramListener:
    """Answers on one UDP socket, which stays its owner's to close.

    `table` may be replaced at any time, and the next packet is answered from the new one. What is not answered from it
    at once is shown to `fast`; `submit` takes whatever else is to be forwarded. With `observe` each reply is told to
    it, one packet per turn, and nothing goes by the fast path; without, no time is spent on it.
    """

    def __init__(
        self,
        sock: socket.socket,
        table: Table,
        submit: Submit,
        observe: Observe | None = None,
        *,
        fast: Fast | None = None,
    ) -> None:
        """Take over a bound socket."""
        sock.setblocking(False)
        self.table = table
        self.counters = DatagramCounters()
        self._sock = sock
        self._submit = submit
        self._look = fast.look if fast else _overlook
        self._fast = fast
        self._reply = self._send
        self._observe = observe
        self._batch: Batch | None = None
        self._waiting = False
        self._until_look = LOOK_EVERY
        self._tally = self.counters.tally
        self._loop: AbstractEventLoop | None = None

    def start(self, loop: AbstractEventLoop) -> None:
        """Begin to answer: while the loop waits if it is an `AnsweringLoop`, else as one of its readers."""
        self._loop = loop
        turn = self._turn if self._observe is None else self._observed
        if isinstance(loop, AnsweringLoop):
            loop.add_turn(self._sock.fileno(), turn)
        else:
            loop.add_reader(self._sock.fileno(), turn)

    def read_many(self) -> None:
        """From now on read packets that wait together, where the C library can."""
        from meshdns.resolver.serve.batch import Batch, is_available  # noqa: PLC0415 - ctypes: no first answer waits for it

        if is_available() and self._observe is None:
            self._batch = Batch(self._sock)
            self._until_look = LOOK_EVERY

    def stop(self) -> None:
        """Read nothing more; replies to what was submitted still go out while the socket is open."""
        loop, self._loop = self._loop, None
        if isinstance(loop, AnsweringLoop):
            loop.remove_turn(self._sock.fileno())
        elif loop is not None:
            loop.remove_reader(self._sock.fileno())

    def kernel_drops(self) -> int:
        """Return how many packets the kernel dropped because they were not read in time."""
        try:
            return int(
                _MEMINFO.unpack(self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_MEMINFO_DROPS]
            )
        except (OSError, struct.error):  # Linux before 4.12
            return 0

    def _turn(self) -> None:
        """Answer one packet, or as many as wait if several did the last time somebody looked."""
        if self._waiting:
            self._many()
            return
        try:
            packet, client = self._sock.recvfrom(PACKET_BYTES)
        except OSError:
            return
        self._until_look -= 1
        table, tally = self.table, self._tally
        decision = (
            at_once(packet, table, tally)
            or self._look(packet, table, time.monotonic())
            or by_order(packet, table, tally)
        )
        if isinstance(decision, bytes):
            try:
                self._sock.sendto(decision, client)
            except OSError:
                self.counters.unsent += 1
        else:
            self._other(packet, decision, client)
        if not self._until_look and self._batch is not None:
            self._until_look = LOOK_EVERY
            self._many()

    def _many(self) -> None:
        """Answer up to SLOTS packets; while there are several, the next turn begins here."""
        batch = self._batch
        assert batch is not None  # noqa: S101 - `_turn` saw to it
        sizes = batch.receive()
        table, tally, look, now = self.table, self._tally, self._look, time.monotonic()
        packets, replies, names = batch.packets, batch.replies, batch.names
        reply_names, reply_sizes = batch.reply_names, batch.reply_sizes
        others = []
        count = 0
        for slot, size in enumerate(sizes):
            start = slot << 16
            packet = packets[start : start + size]
            decision = at_once(packet, table, tally) or look(packet, table, now) or by_order(packet, table, tally)
            if isinstance(decision, bytes):
                length = len(decision)
                at = count << 12
                replies[at : at + length] = decision
                reply_sizes[count] = length
                reply_names[count] = names[slot]
                count += 1
            else:
                others.append((slot, packet, decision))
        if count:
            self.counters.unsent += batch.send(count)
        for slot, packet, decision in others:
            self._other(packet, decision, batch.client(slot))
        self._waiting = len(sizes) > 1
        self.counters.batches += 1

    def _observed(self) -> None:
        """Answer one packet and tell about it."""
        try:
            packet, client = self._sock.recvfrom(PACKET_BYTES)
        except OSError:
            return
        begun_ns = time.perf_counter_ns()
        decision = decide(packet, self.table, self._tally)
        spent = _Spent(begun_ns, time.perf_counter_ns() - begun_ns)
        if isinstance(decision, bytes):
            self._send(client, decision)
            self._tell(client, packet, decision, spent, None)
        elif isinstance(decision, Forward):
            self.counters.forwarded += 1

            def respond(reply: bytes) -> None:
                whole = decision.complete(packet, reply)
                self._send(client, whole)
                self._tell(client, packet, whole, spent, decision)

            self._submit(decision.packet, decision, client, decision.limit, respond)
        else:
            self._other(packet, decision, client)

    def _tell(self, client: Client, packet: bytes, reply: bytes, spent: _Spent, forward: Forward | None) -> None:
        if self._observe is not None:
            total_ns = time.perf_counter_ns() - spent.begun_ns
            asked = forward.query if forward else None
            self._observe(Observation("udp", client, packet, reply, spent.decided_ns, total_ns, asked))

    def _other(self, packet: bytes, decision: Plain | Forward | Drop, client: Client) -> None:
        counters = self.counters
        if isinstance(decision, Plain):
            assert self._fast is not None  # noqa: S101 - it came from there
            counters.forwarded += 1
            self._fast.ask(decision, client, self._reply)
        elif isinstance(decision, Forward):
            counters.forwarded += 1
            respond = (
                partial(self._send, client)
                if decision.chase is None
                else partial(self._send_completed, client, packet, decision)
            )
            self._submit(decision.packet, decision, client, decision.limit, respond)
        elif decision is Drop.RESPONSE:
            counters.responses += 1
        elif packet:
            counters.short += 1
        else:
            counters.heartbeats += 1

    def _send_completed(self, client: Client, packet: bytes, forward: Forward, reply: bytes) -> None:
        self._send(client, forward.complete(packet, reply))

    def _send(self, client: Client, reply: bytes) -> None:
        """Send without waiting. A reply that the kernel will not take is given up: its client asks again."""
        try:
            self._sock.sendto(reply, client)
        except OSError:
            self.counters.unsent += 1


def _overlook(_packet: bytes, _table: Table, _now: float) -> None:
    """Find nothing, where there is no fast path."""
