"""A relay in a network namespace, with the redirect that brings connections to it, and endpoints that behave in ways.

    with namespace() as pod, relaying(pod, routes({"240.240.0.1": ("web.internal", [80], ["127.0.1.1"])})) as relay:
        with endpoint(pod, "127.0.1.1", 80, echoing):
            client = pod.socket(AF_INET, SOCK_STREAM)
            client.connect(("240.240.0.1", 80))

The relay's own connections are told from others by their owner, uid 1337, as in production.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from namespaces import Namespace

from meshdns.relay.address import Address, SocketAddress
from meshdns.relay.listen import listen
from meshdns.relay.names import Family
from meshdns.relay.route import Backend, Endpoint, Pools, Port, Route, Routes, parse_target
from meshdns.relay.server import Relay, RelaySettings

T = TypeVar("T")

RELAY_UID = 1337
RELAY_PORT = 15001
POOLS = Pools(ipaddress.IPv4Network("240.240.0.0/16"), ipaddress.IPv6Network("2001:2::/48"))
PROBE_PORT = 1
LISTEN: tuple[SocketAddress, ...] = (
    (ipaddress.IPv4Address("127.0.0.1"), RELAY_PORT),
    (ipaddress.IPv6Address("::1"), RELAY_PORT),
)

SETTINGS = RelaySettings(version="1.2.3", connections_max=1000)

POD_ADDRESSES = ("192.0.2.1", "2001:db8::1")
SERVER_ADDRESSES = ("198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::101")

# Connections to the pools and to 198.51.100.0/24 come to the relay; packets to 203.0.113.0/24 vanish on their way in.
RULES = f"""
table inet mdt {{
  chain nat {{ type nat hook output priority -101;
    meta skuid {RELAY_UID} return
    ip daddr {{ 240.240.0.0/16, 198.51.100.0/24 }} meta l4proto tcp redirect to :{RELAY_PORT}
    ip6 daddr 2001:2::/48 meta l4proto tcp redirect to :{RELAY_PORT}
  }}
  chain in {{ type filter hook input priority 0;
    ip daddr 203.0.113.0/24 drop
    ip6 daddr 2001:db8:dead::/48 drop
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name has, as the resolver would say it."""

    addresses: tuple[Address, ...]
    ttl_s: int = 30
    after_s: float = 0.0


Zone = dict[tuple[str, Family], Answer | Exception]


def routes(
    leases: Mapping[str, tuple[str, Sequence[Port | int], Sequence[Endpoint | str]]], *, refuse_undeclared: bool = False
) -> Routes:
    """Routes as `{address: (host, ports, endpoints)}`."""
    made: dict[Address, Route] = {}
    for address, (host, ports, endpoints) in leases.items():
        backend = Backend(
            tuple(port if isinstance(port, Port) else Port(port) for port in ports),
            tuple(one if isinstance(one, Endpoint) else Endpoint(parse_target(one)) for one in endpoints),
        )
        made[ipaddress.ip_address(address)] = Route(host, (backend,))
    return Routes(POOLS, made, PROBE_PORT, refuse_undeclared)


@dataclass(slots=True)
class Relaying:
    """A running relay: call it from the test's thread."""

    relay: Relay
    loop: asyncio.AbstractEventLoop
    lines: list[dict[str, Any]]
    asked: list[tuple[str, Family]]
    warnings: tuple[str, ...] = ()

    def call(self, function: Callable[[], T]) -> T:
        """Call something in the relay's loop."""

        async def called() -> T:
            return function()

        return self.run(called())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the relay's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=40)

    def until(self, condition: Callable[[Relay], bool], what: str) -> None:
        """Wait until the relay is in a state, for ten seconds at most."""

        async def wait() -> None:
            async with asyncio.timeout(10):
                while not condition(self.relay):  # noqa: ASYNC110 - the state changes in many places
                    await asyncio.sleep(0.005)

        try:
            self.run(wait())
        except TimeoutError:
            raise AssertionError(f"the relay never got there: {what}") from None


def prepare(pod: Namespace) -> None:
    """Give a pod its addresses, a way to the pools, and the redirect."""
    for address in (*POD_ADDRESSES, *SERVER_ADDRESSES):
        pod.run("ip", "address", "add", address, "dev", "lo", "nodad")
    for address in POD_ADDRESSES:
        pod.run("ip", "route", "add", "default", "dev", "lo", "src", address)
    pod.run("nft", "-f", "-", stdin=RULES)


@contextlib.contextmanager
def relaying(
    pod: Namespace,
    initial: Routes,
    settings: RelaySettings = SETTINGS,
    *,
    addresses: Sequence[SocketAddress] = LISTEN,
    zone: Zone | None = None,
    draw: Callable[[], float] = random.random,
) -> Iterator[Relaying]:
    """Run a relay in `pod` for the length of a block, in a thread and a loop of its own."""
    prepare(pod)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    pod.call(thread.start, uid=RELAY_UID)
    asked: list[tuple[str, Family]] = []
    names: Zone = {} if zone is None else zone

    async def resolve(name: str, family: Family) -> Answer:
        asked.append((name, family))
        answer = names.get((name, family), Answer(()))
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer.after_s)
        return answer

    lines: list[dict[str, Any]] = []
    relay = Relay(settings, initial, resolve, lambda line: lines.append(json.loads(line)), draw)
    running = Relaying(relay, loop, lines, asked)

    def start() -> tuple[str, ...]:
        listeners, warnings = listen(addresses)
        relay.start(listeners)
        return tuple(warnings)

    try:
        running.warnings = running.call(start)
        try:
            yield running
        finally:
            running.run(relay.drain(0.0))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


Behaviour = Callable[[socket.socket], None]


@contextlib.contextmanager
def endpoint(pod: Namespace, address: str, port: int, behave: Behaviour) -> Iterator[list[socket.socket]]:
    """Serve in `pod`: each accepted socket is given to `behave` in a thread of its own, and stands in the list."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = pod.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(1024)
    with serving(listener, behave) as accepted:
        yield accepted


@contextlib.contextmanager
def serving(listener: socket.socket, behave: Behaviour) -> Iterator[list[socket.socket]]:
    """Serve on a listening socket until the end of the block, and close all."""
    accepted: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            connection.settimeout(10)
            accepted.append(connection)
            threads.append(threading.Thread(target=_ignoring_ends, args=(behave, connection)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield accepted
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for connection in accepted:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for connection in accepted:
            connection.close()


def _ignoring_ends(behave: Behaviour, connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        behave(connection)


def echoing(connection: socket.socket) -> None:
    """Send back what comes until the other side ends, then end."""
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def telling(text: bytes) -> Behaviour:
    """Say something and close."""

    def tell(connection: socket.socket) -> None:
        connection.sendall(text)
        connection.close()

    return tell


def hanging(connection: socket.socket) -> None:
    """Do nothing at all."""


def resetting(connection: socket.socket) -> None:
    """Close with a RST."""
    reset(connection)


def reset(connection: socket.socket) -> None:
    """Close a socket so that its peer gets a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def connect(pod: Namespace, address: str, port: int) -> socket.socket:
    """Connect as an ordinary process of the pod does."""
    client = pod.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, timeout_s=10)
    try:
        client.connect((address, port))
    except OSError:
        client.close()
        raise
    return client


def ask(pod: Namespace, address: str, port: int) -> bytes:
    """Connect and read until the end; a RST raises ConnectionResetError."""
    with connect(pod, address, port) as client:
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Read until the end."""
    pieces = []
    while data := client.recv(1 << 20):
        pieces.append(data)
    return b"".join(pieces)
