"""What the relay does when there is too much of something, when an address is taken, and when it is told to end."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import threading
import time
from dataclasses import replace
from ipaddress import ip_address

import pytest
from namespaces import Namespace
from relaying import (
    LISTEN,
    SETTINGS,
    Relaying,
    ask,
    connect,
    echoing,
    endpoint,
    hanging,
    relaying,
    reset,
    routes,
    telling,
)

from meshdns.relay.errors import ListenError

WEB = "240.240.0.1"
SERVER = "127.0.1.1"
ROUTES = routes({WEB: ("web.internal", [80], [SERVER])})


def echoed(client: socket.socket, text: bytes) -> bool:
    client.settimeout(0.5)
    try:
        return client.recv(100) == text
    except TimeoutError:
        return False


def test_no_more_connections_than_the_limit(pod: Namespace) -> None:
    """Who comes when all places are taken waits in the backlog, and is served when somebody leaves."""
    with relaying(pod, ROUTES, replace(SETTINGS, connections_max=3)) as relay, endpoint(pod, SERVER, 80, echoing):
        clients = [connect(pod, WEB, 80) for _ in range(6)]
        for client in clients:
            client.sendall(b"hello")
        assert [echoed(client, b"hello") for client in clients] == [True] * 3 + [False] * 3
        assert relay.relay.counters.open == 3
        assert relay.relay.counters.accept_pauses >= 1
        for client in clients[:3]:
            client.close()
        assert [echoed(client, b"hello") for client in clients[3:]] == [True] * 3
        for client in clients[3:]:
            client.close()
        relay.until(lambda it: it.counters.open == 0, "all closed")
        assert relay.relay.counters.failures == {}


@pytest.mark.parametrize(("files", "room", "level"), [(1024, 384, logging.WARNING), (1500, 622, logging.INFO)])
def test_connections_leave_descriptors_to_dns(
    pod: Namespace, caplog: pytest.LogCaptureFixture, files: int, room: int, level: int
) -> None:
    """With a low limit of open files fewer connections are relayed; that is told, and is a warning below the half."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        with caplog.at_level(logging.INFO), relaying(pod, ROUTES):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    text = f"at most {room} connections are relayed: the limit of open files is {files}"
    assert caplog.record_tuples == [("meshdns.relay", level, text)]


def test_a_storm_of_resets(pod: Namespace) -> None:
    """Five hundred clients that connect and reset leave nothing behind."""
    with relaying(pod, ROUTES) as relay, endpoint(pod, SERVER, 80, hanging):
        for _ in range(500):
            with contextlib.suppress(OSError):
                reset(connect(pod, WEB, 80))
        relay.until(lambda it: it.counters.open == 0, "all closed")
        assert relay.call(lambda: len(relay.relay._readiness._watchers)) == len(LISTEN)


def test_an_address_that_is_taken(pod: Namespace) -> None:
    """The error names the address and how to find who has it, and nothing stays open."""
    with endpoint(pod, "127.0.0.1", 15001, hanging), pytest.raises(ListenError) as raised, relaying(pod, ROUTES):
        pass
    assert str(raised.value) == (
        "cannot listen on 127.0.0.1:15001: the port is in use: see `ss -lntp 'sport = :15001'`, or give another "
        "--relay-listen, or --no-relay"
    )
    assert raised.value.exit_code == 3


def test_an_address_that_is_not_there(pod: Namespace) -> None:
    """Any address but ::1 must be there."""
    elsewhere = ((ip_address("192.0.2.77"), 15001), *LISTEN)
    refused = pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.77:15001: ")
    with refused, relaying(pod, ROUTES, addresses=elsewhere):
        pass


def test_a_host_without_ipv6_loopback(pod: Namespace) -> None:
    """A missing ::1 is a warning, and IPv4 is relayed."""
    pod.run("ip", "address", "del", "::1/128", "dev", "lo")
    with relaying(pod, ROUTES) as relay, endpoint(pod, SERVER, 80, telling(b"hello")):
        assert relay.warnings == ("cannot listen on [::1]:15001: Cannot assign requested address",)
        assert ask(pod, WEB, 80) == b"hello"


def test_drain_lets_connections_finish(pod: Namespace) -> None:
    """Nobody new is accepted, those who are there finish, and drain ends with the last of them."""
    with relaying(pod, ROUTES) as relay, endpoint(pod, SERVER, 80, echoing):
        client = connect(pod, WEB, 80)
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        left: list[int] = []
        draining = threading.Thread(target=lambda: left.append(drained(relay, 10.0)))
        draining.start()
        assert refuses_soon(pod)
        client.sendall(b"b")
        assert client.recv(1) == b"b"
        client.close()
        draining.join()
        assert left == [0]


def refuses_soon(pod: Namespace) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            connect(pod, WEB, 80).close()
        except ConnectionRefusedError:
            return True
    return False


def test_drain_resets_what_does_not_finish(pod: Namespace) -> None:
    """After the timeout the rest is reset: connections, and clients whose endpoint does not answer."""
    silent = routes({WEB: ("web.internal", [80], [SERVER]), "240.240.0.2": ("x.internal", [80], ["203.0.113.1"])})
    with relaying(pod, silent) as relay, endpoint(pod, SERVER, 80, echoing):
        client, dialling = connect(pod, WEB, 80), connect(pod, "240.240.0.2", 80)
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        relay.until(lambda it: it.counters.open == 2, "both there")
        assert drained(relay, 0.2) == 2
        for sock in (client, dialling):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            sock.close()
        assert sorted(line["end"] for line in relay.lines) == ["drained", "drained"]


def drained(relay: Relaying, timeout_s: float) -> int:
    return relay.run(relay.relay.drain(timeout_s))
