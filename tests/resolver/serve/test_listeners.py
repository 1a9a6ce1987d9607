"""Where queries arrive: sockets that systemd opened are taken over (sd_listen_fds(3)); what strangers reach is told."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest
from ports import free_port
from resolving import ADDRESS_AND_AUTO, MESHDNS

from meshdns.resolver.serve.address import SocketAddress
from meshdns.resolver.serve.listeners import Opened, open_listeners

PASSING = """
import os, sys
count = int(sys.argv[1])
for to, descriptor in enumerate(map(int, sys.argv[2 : 2 + count]), 3):
    os.dup2(descriptor, to)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.argv[2 + count], sys.argv[2 + count :])
"""
"""What systemd does before it starts a program: descriptors from 3 on, and two variables."""


def start_with(descriptors: Sequence[int], home: Path, *options: str) -> subprocess.Popen[str]:
    """Start a resolver that is passed these descriptors."""
    (home / "a.yaml").write_text(ADDRESS_AND_AUTO)
    count = str(len(descriptors))
    command = [
        *(sys.executable, "-c", PASSING, count, *map(str, descriptors)),
        *(*MESHDNS, "resolver", "run", "--manifests", str(home), "--upstream", "127.0.0.99", "--no-relay"),
        *("--no-heartbeat", "--admin", f"127.0.0.1:{free_port()}", *options),
    ]
    # High numbers of our own, so that none of them is written over before it is passed on.
    return subprocess.Popen(command, pass_fds=descriptors, stderr=subprocess.PIPE, text=True)


def _wait_for_answer(ask: Callable[..., dns.message.Message], port: int) -> None:
    give_up = time.monotonic() + 20
    while True:
        assert time.monotonic() < give_up
        with contextlib.suppress(dns.exception.Timeout):  # it waits in the socket while the resolver starts
            if ask(dns.message.make_query("auto.internal", "A"), "127.0.0.1", 5, port).answer:
                return
        time.sleep(0.05)


def test_passed_sockets_are_answered_on(tmp_path: Path) -> None:
    """UDP and TCP sockets that were open before the resolver are the ones it answers on."""
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind(("127.0.0.1", port))
        tcp.bind(("127.0.0.1", port))
        tcp.listen()
        high = [os.dup2(each.fileno(), 100 + index) for index, each in enumerate((udp, tcp))]
        try:
            with start_with(high, tmp_path, "--listen", f"127.0.0.1:{port}") as process:
                try:
                    for ask in (dns.query.udp, dns.query.tcp):
                        _wait_for_answer(ask, port)
                finally:
                    process.kill()
        finally:
            for descriptor in high:
                os.close(descriptor)


def test_a_descriptor_that_is_no_socket_is_exit_3(tmp_path: Path) -> None:
    """What cannot be taken over is one line that names it."""
    with (tmp_path / "file").open("wb") as file:
        high = os.dup2(file.fileno(), 100)
        try:
            with start_with([high], tmp_path, "--listen", f"127.0.0.1:{free_port()}") as process:
                _, errors = process.communicate(timeout=20)
        finally:
            os.close(high)
    assert (process.returncode, errors.count("\n")) == (3, 1), errors
    assert "cannot take over descriptor 3 of LISTEN_FDS" in errors


def opened_and_closed(addresses: Sequence[SocketAddress]) -> Opened:
    """Return what listening on these addresses gave, with nothing left open."""
    opened = open_listeners(addresses, {})
    for listener in opened.listeners:
        listener.close()
    return opened


def test_other_families_and_ports_are_other_addresses() -> None:
    """127.0.0.1, ::1 and another port of the first are listened on side by side."""
    first, second = free_port(), free_port()
    places = [("127.0.0.1", first), ("::1", first), ("127.0.0.1", second), ("::", second)]
    listen = [SocketAddress(ip_address(address), port) for address, port in places]
    assert [listener.at for listener in opened_and_closed(listen).listeners] == listen


@pytest.mark.parametrize(("address", "warned"), [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False)])
def test_an_open_resolver_is_warned_of(address: str, *, warned: bool) -> None:
    """An address that strangers reach is listened on, with a warning; loopback has none."""
    opened = opened_and_closed([SocketAddress(ip_address(address), free_port())])
    assert [address in warning and "firewall" in warning for warning in opened.warnings] == [True] * warned
