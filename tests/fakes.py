"""Fake DNS servers on loopback that answer, stay silent, are slow, lie, truncate or talk rubbish.

    with FakeUpstream(answering("198.51.100.7")) as upstream:
        ... ask 127.0.0.1 port upstream.port over UDP or TCP ...
        upstream.behaviour = silent          # from the next query on
        assert upstream.names == ["www.example."]

A behaviour takes a `Question` and returns what to say and when: a list of `Say`, in order; an empty list is silence.
Behaviours that take another one (`slow`, `truncating`, `twice`, `wrong_id`, `wrong_question`) change what it says.
Each server is one thread with a loop of its own; leaving the block closes its sockets and ends the thread. What a fake
cannot do, because it is no process of its own, is to be killed or stopped: use `tests/servers.py` for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Transport = Literal["udp", "tcp"]

START_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Question:
    """A query as it arrived: `name` absolute and as spelt, `qtype` as text, the whole packet, who sent it and when."""

    name: str
    qtype: str
    transport: Transport
    packet: bytes
    source: tuple[str, int]
    at_s: float

    @property
    def message(self) -> dns.message.Message:
        """The query as dnspython reads it."""
        return dns.message.from_wire(self.packet, ignore_trailing=True)


@dataclass(frozen=True, slots=True)
class Say:
    """One message to send back, `after_s` seconds from the query. None as message closes a TCP connection."""

    message: bytes | None
    after_s: float = 0.0


Behaviour = Callable[[Question], list[Say]]


# What a server says.


def silent(_question: Question) -> list[Say]:
    """Say nothing at all."""
    return []


def answering(*addresses: str, ttl: int = 60) -> Behaviour:
    """Answer every name: A and AAAA from `addresses`, every other type and a missing family with NODATA and an SOA."""
    rdata = [f"{'AAAA' if ':' in address else 'A'} {address}" for address in addresses]
    return lambda question: [Say(_reply(question, {question.name: rdata}, ttl).to_wire(max_size=65535))]


def serving(names: Mapping[str, list[str]], ttl: int = 60) -> Behaviour:
    """Answer from `names` (absolute, lower case) to rdata text such as `A 192.0.2.1`; CNAMEs are followed within."""
    return lambda question: [Say(_reply(question, names, ttl).to_wire(max_size=65535))]


def failing(rcode: str) -> Behaviour:
    """Answer every query with this RCODE, such as "SERVFAIL", and nothing else."""

    def behaviour(question: Question) -> list[Say]:
        reply = dns.message.make_response(question.message, recursion_available=True)
        reply.set_rcode(dns.rcode.from_text(rcode))
        return [Say(reply.to_wire())]

    return behaviour


def saying(message: bytes) -> Behaviour:
    """Answer with these bytes behind the query's own id: garbage that only its id makes a reply."""
    return lambda question: [Say(question.packet[:2] + message)]


# What a server does to what another one would say.


def slow(after_s: float, behaviour: Behaviour) -> Behaviour:
    """Say it later."""
    return lambda question: [replace(say, after_s=say.after_s + after_s) for say in behaviour(question)]


def twice(behaviour: Behaviour) -> Behaviour:
    """Say everything two times."""
    return lambda question: [say for say in behaviour(question) for _ in range(2)]


def truncating(behaviour: Behaviour) -> Behaviour:
    """Over UDP say only that it does not fit (TC, no record); over TCP say all of it."""

    def over_udp(message: bytes) -> bytes:
        reply = dns.message.from_wire(message)
        reply.answer, reply.authority, reply.additional = [], [], []
        reply.flags |= dns.flags.TC
        return reply.to_wire()

    def changed(question: Question) -> list[Say]:
        said = behaviour(question)
        return _changed(said, over_udp) if question.transport == "udp" else said

    return changed


def wrong_id(behaviour: Behaviour) -> Behaviour:
    """Say it under an id that nobody asked with."""
    return lambda question: _changed(behaviour(question), lambda said: bytes([said[0] ^ 0x55]) + said[1:])


def wrong_question(behaviour: Behaviour) -> Behaviour:
    """Say it as the answer to a question whose first letter differs."""
    return lambda question: _changed(behaviour(question), lambda said: said[:13] + bytes([said[13] ^ 1]) + said[14:])


def by_name(behaviours: Mapping[str, Behaviour], otherwise: Behaviour = silent) -> Behaviour:
    """Behave by the name asked for (absolute, lower case)."""
    return lambda question: behaviours.get(question.name.lower(), otherwise)(question)


def _changed(said: list[Say], change: Callable[[bytes], bytes]) -> list[Say]:
    return [replace(say, message=change(say.message)) if say.message is not None else say for say in said]


def _reply(question: Question, names: Mapping[str, list[str]], ttl: int) -> dns.message.Message:
    reply = dns.message.make_response(question.message, recursion_available=True)
    owner = question.name
    known = names.get(owner, names.get(owner.lower()))
    seen = {owner.lower()}
    while known is not None:
        records = [text.split(maxsplit=1) for text in known]
        wanted = [rdata for rdtype, rdata in records if rdtype == question.qtype]
        if wanted:
            reply.answer.append(dns.rrset.from_text(owner, ttl, "IN", question.qtype, *wanted))
            return reply
        target = next((rdata for rdtype, rdata in records if rdtype == "CNAME"), None)
        if target is None or target.lower() in seen:
            break
        reply.answer.append(dns.rrset.from_text(owner, ttl, "IN", "CNAME", target))
        owner, known = target, names.get(target.lower())
        seen.add(target.lower())
    if known is None:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    soa = f"ns.invalid. host.invalid. 1 3600 600 86400 {ttl}"
    reply.authority.append(dns.rrset.from_text("invalid.", ttl, "IN", "SOA", soa))
    return reply


# The server.


@dataclass(slots=True)
class FakeUpstream:
    """A server on one port, UDP and TCP, that does what `behaviour` says, which may be changed at any time."""

    behaviour: Behaviour
    address: str = "127.0.0.1"
    port: int = 0
    asked: list[Question] = field(default_factory=list)
    connections: int = 0
    _loop: asyncio.AbstractEventLoop = field(init=False, repr=False)
    _thread: threading.Thread = field(init=False, repr=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    @property
    def names(self) -> list[str]:
        """The names asked for so far, absolute and as spelt, in order."""
        return [question.name for question in self.asked]

    @property
    def endpoint(self) -> str:
        """ADDRESS:PORT, with brackets around an IPv6 address."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def wait_for(self, count: int, timeout_s: float = 10.0) -> None:
        """Return once `count` queries have arrived; TimeoutError when they do not."""
        end = time.monotonic() + timeout_s
        while len(self.asked) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(self.asked)} of {count} queries arrived within {timeout_s} s: {self.names}")
            time.sleep(0.005)

    def __enter__(self) -> Self:
        """Bind the port, over UDP and TCP, and serve."""
        udp, tcp = _bind(self.address, self.port)
        self.port = udp.getsockname()[1]
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(udp, tcp, started), name="fake upstream")
        self._thread.start()
        if not started.wait(START_S):
            raise TimeoutError("cannot start a fake upstream: its thread does not run")
        return self

    def __exit__(self, *_: object) -> None:
        """Close every socket and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, udp: socket.socket, tcp: socket.socket, started: threading.Event) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(asyncio.start_server(self._converse, sock=tcp))
        loop.add_reader(udp, self._receive, udp)
        loop.call_soon(started.set)
        loop.run_forever()
        loop.remove_reader(udp)
        udp.close()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(_settle())
        loop.close()

    def _receive(self, udp: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                packet, source = udp.recvfrom(65535)
                for say in self._said(packet, "udp", source[:2]):
                    if say.message is not None:
                        self._loop.call_later(say.after_s, _send_to, udp, say.message, source)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                packet = await reader.readexactly(length)
                for say in self._said(packet, "tcp", writer.get_extra_info("peername")[:2]):
                    task = self._loop.create_task(_say_later(writer, say))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _said(self, packet: bytes, transport: Transport, source: Any) -> list[Say]:  # noqa: ANN401 - socket's own type
        try:
            asked = dns.message.from_wire(packet, question_only=True, ignore_trailing=True).question
            name, qtype = (asked[0].name.to_text(), dns.rdatatype.to_text(asked[0].rdtype)) if asked else ("", "")
        except Exception:  # noqa: BLE001 - whatever was sent is recorded, and a behaviour may answer it
            name, qtype = "", ""
        question = Question(name, qtype, transport, packet, source, time.monotonic())
        self.asked.append(question)
        return self.behaviour(question)


async def _say_later(writer: asyncio.StreamWriter, say: Say) -> None:
    await asyncio.sleep(say.after_s)
    if say.message is None:
        writer.transport.abort()
    elif not writer.is_closing():
        writer.write(struct.pack("!H", len(say.message)) + say.message)


async def _settle() -> None:
    """Let what was cancelled and closed come to its end, so that nothing is left for the garbage collector."""
    for _ in range(3):
        await asyncio.sleep(0)


def _send_to(udp: socket.socket, message: bytes, to: Any) -> None:  # noqa: ANN401 - socket's own type
    if udp.fileno() >= 0:
        with contextlib.suppress(OSError):
            udp.sendto(message, to)


def _bind(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Bind one port for both transports; a port that only one of them can have is given back and another one tried."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for attempt in range(20):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            udp.bind((address, port))
            tcp.bind((address, udp.getsockname()[1]))
        except OSError:
            udp.close()
            tcp.close()
            if port or attempt == 19:
                raise
            continue
        udp.setblocking(False)
        tcp.setblocking(False)
        return udp, tcp
    raise AssertionError("not reached")


@contextlib.contextmanager
def closed_port(address: str = "127.0.0.1") -> Iterator[int]:
    """Give a port where nobody listens: UDP is refused by ICMP, TCP by reset. It is held so that nobody takes it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.bind((address, 0))
        yield held.getsockname()[1]
