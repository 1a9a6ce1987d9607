"""The load generators, the same for every server: a window, one at a time, and a steady rate. door: sockets.

dnsperf 2.10 was tried first: with a window of 64 it takes longer for a query than the faster servers do, with a window
of 1 it waits for its own timers (90 queries/s), and a rate it sends in bursts. A steady rate is open loop: a query
leaves at its time whether the last one has been answered or not, and answers are timed by the kernel, so that a late
look at them costs the server nothing.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.figures import percentile
from bench.mmsg import Incoming, Outgoing
from bench.process import NotMeasuredError, Process

ADDRESS: Final = "127.0.0.1"
ANSWER_S: Final = 2.0
"""How long an answer is waited for before it is lost."""

_SO_TIMESTAMPNS: Final = 35  # include/uapi/asm-generic/socket.h
_TIMESPEC: Final = struct.Struct("@ll")
_TIMEVAL: Final = _TIMESPEC
_NS_PER_S: Final = 1_000_000_000
_IDS: Final = 1 << 16
_RECEIVE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Sample:
    """What one server did in one round."""

    answered: int
    lost: int
    seconds: float
    cpu_s: float = 0.0
    latencies_s: Sequence[float] = ()

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds

    @property
    def cpu_us(self) -> float:
        """Processor time of the server per answer, in microseconds."""
        return self.cpu_s / self.answered * 1e6

    def latency_us(self, percent: float) -> float:
        """Return a percentile of the time from query to answer, in microseconds."""
        return percentile(self.latencies_s, percent) * 1e6


Generate = Callable[[], Sample]


def measured(server: Process, generate: Generate) -> Sample:
    """Generate load and add what the server's processes spent on it."""
    server.check()
    before = server.cpu_s()
    sample = generate()
    spent = server.cpu_s() - before
    if not sample.answered:
        server.check()
        raise NotMeasuredError(f"{server.name} answered nothing: {server.said()}")
    return Sample(sample.answered, sample.lost, sample.seconds, spent, sample.latencies_s)


def window(port: int, queries: Outgoing, size: int, seconds: float) -> Sample:
    """Keep `size` queries under way. Where answers stay away, all of them are lost, and it is filled anew."""
    incoming = Incoming()
    answered = lost = bad = 0
    clock = time.perf_counter
    with _connected(port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(int(ANSWER_S), 0))
        began = clock()
        until = began + seconds
        queries.send(sock, size)
        under_way = size
        while clock() < until:
            came, wrong = incoming.receive(sock)
            answered, bad, under_way = answered + came, bad + wrong, under_way - came
            if not came:
                lost, under_way = lost + under_way, 0
            queries.send(sock, size - under_way)
            under_way = size
        spent = clock() - began
    if bad:
        raise NotMeasuredError(f"{bad} of {answered} answers have an error or no record")
    return Sample(answered, lost, spent)


def one_at_a_time(port: int, queries: Sequence[bytes], seconds: float) -> Sample:
    """Ask, wait for the answer, ask the next; stops early when the queries are used up."""
    latencies = array("d")
    lost = 0
    clock = time.perf_counter
    with _connected(port) as sock:
        sock.settimeout(ANSWER_S)
        send, receive = sock.send, sock.recv
        began = clock()
        until = began + seconds
        for number, query in enumerate(queries):
            packet = (number % _IDS).to_bytes(2, "big") + query[2:]
            sent = clock()
            if sent >= until:
                break
            send(packet)
            try:
                reply = receive(_RECEIVE_BYTES)
            except TimeoutError:
                lost += 1
                continue
            latencies.append(clock() - sent)
            _check(reply)
        spent = clock() - began
    return Sample(len(latencies), lost, spent, latencies_s=latencies)


def steady(port: int, queries: Sequence[bytes], rate: int, seconds: float) -> Sample:
    """Ask `rate` times a second, evenly; what is not answered ANSWER_S after the end is lost."""
    count = min(int(rate * seconds), len(queries), _IDS)
    sent_ns = [0] * count
    latencies = array("d")
    with _connected(port) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        began = time.perf_counter()
        for number in range(count):
            packet = number.to_bytes(2, "big") + queries[number][2:]
            _collect(sock, sent_ns, latencies, began + number / rate)
            sent_ns[number] = time.time_ns()
            sock.send(packet)
        spent = time.perf_counter() - began
        give_up = time.perf_counter() + ANSWER_S
        while len(latencies) < count and time.perf_counter() < give_up:
            _collect(sock, sent_ns, latencies, time.perf_counter() + 0.01)
    return Sample(len(latencies), count - len(latencies), spent, latencies_s=latencies)


def _collect(sock: socket.socket, sent_ns: list[int], latencies: array[float], until: float) -> None:
    """Take in answers until a time on the clock."""
    while True:
        try:
            reply, (stamp, *_), _, _ = sock.recvmsg(_RECEIVE_BYTES, socket.CMSG_SPACE(_TIMESPEC.size))
        except BlockingIOError:
            left = until - time.perf_counter()
            if left <= 0:
                return
            select.select([sock], [], [], left)
            continue
        seconds, nanoseconds = _TIMESPEC.unpack(stamp[2])
        asked_ns = sent_ns[int.from_bytes(reply[:2], "big")]
        latencies.append((seconds * _NS_PER_S + nanoseconds - asked_ns) / _NS_PER_S)
        _check(reply)
        if time.perf_counter() >= until:
            return


def _check(reply: bytes) -> None:
    if reply[3] & 15 or reply[6:8] == b"\0\0":
        raise NotMeasuredError(f"an answer has RCODE {reply[3] & 15} and {reply[7]} records")


def first_answer(port: int, query: bytes, server: Process, within_s: float = 60.0) -> None:
    """Wait until a server gives its first answer with a record in it."""
    give_up = time.perf_counter() + within_s
    while time.perf_counter() < give_up:
        server.check()
        with _connected(port) as sock:
            sock.settimeout(0.005)
            try:
                sock.send(query)
                reply = sock.recv(_RECEIVE_BYTES)
            except TimeoutError:
                continue
            except ConnectionRefusedError:
                time.sleep(0.001)
                continue
            if not reply[3] & 15 and reply[6:8] != b"\0\0":
                return
            time.sleep(0.001)
    raise NotMeasuredError(f"{server.name} gave no answer within {within_s:g} s: {server.said()}")


def _connected(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.connect((ADDRESS, port))
    return sock
