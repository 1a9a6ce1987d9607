"""A virtual interface is captured only where resolver and relay listen at its address."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
from namespaces import Namespace, namespace, veth

from meshdns.init.cli import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

Socket = tuple[str, int, int]
UDP, TCP = socket.SOCK_DGRAM, socket.SOCK_STREAM
V4: list[Socket] = [("10.7.0.1", UDP, 15053), ("10.7.0.1", TCP, 15053), ("10.7.0.1", TCP, 15001)]
V6: list[Socket] = [("fd07::1", UDP, 15053), ("fd07::1", TCP, 15053), ("fd07::1", TCP, 15001)]
ANY: list[Socket] = [("::", UDP, 15053), ("::", TCP, 15053), ("::", TCP, 15001)]


@pytest.fixture(scope="module")
def pod() -> Iterator[Namespace]:
    with namespace() as made, namespace() as guest:
        veth(made, "tap0", ["10.7.0.1/24", "fd07::1/64"], guest, "eth0", ["10.7.0.2/24", "fd07::2/64"])
        made.run("ip", "link", "add", "bare0", "type", "veth")
        yield made


@contextlib.contextmanager
def _listening(pod: Namespace, sockets: list[Socket]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for address, kind, port in sockets:
            made = stack.enter_context(pod.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            if kind == TCP:
                made.listen()
        yield


ONLY_V4 = ["--family", "ipv4", "--dns-servers", "10.96.0.10"]

CASES: dict[str, tuple[list[Socket], list[str], str | None]] = {
    "nobody": ([], [], "nobody listens at 10.7.0.1:15053 over udp"),
    "on loopback only": ([("127.0.0.1", kind, port) for _, kind, port in V4], [], "10.7.0.1:15053 over udp"),
    "everybody": (V4 + V6, [], None),
    "at every address": (ANY, [], None),
    "no TCP": (V4[:1] + V4[2:], ONLY_V4, "10.7.0.1:15053 over tcp: give `meshdns resolver run --listen"),
    "no relay": (V4[:2], ONLY_V4, "10.7.0.1:15001 over tcp: give `meshdns resolver run --relay-listen"),
    "one family of two": (V4, [], "nobody listens at [fd07::1]:15053 over udp"),
    "one family asked for": (V4, ONLY_V4, None),
    "other ports": (V4 + V6, ["--dns-port", "5300"], "10.7.0.1:5300"),
    "no DNS": (V4[2:] + V6[2:], ["--no-dns"], None),
    "no address": ([], ["--virtual-interface", "bare0"], "bare0: it has no address"),
    "no interface": ([], ["--virtual-interface", "nothing0"], "nothing0: it has no address"),
}


@pytest.mark.parametrize("name", CASES)
def test_somebody_must_listen(pod: Namespace, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3 and one line that says who should listen where, unless resolver and relay do in each captured family."""
    sockets, options, told = CASES[name]
    interface = [] if "--virtual-interface" in options else ["--virtual-interface", "tap0"]
    servers = ["--backend", "nft", *([] if options == ONLY_V4 else ["--dns-servers", "10.96.0.10,fd00:96::10"])]
    with _listening(pod, sockets):
        code = pod.call(lambda: run(["capture", "install", *interface, *servers, *options]))
    shown = capsys.readouterr()
    if told is None:
        assert (code, shown.err) == (0, "")
    else:
        assert code == 3
        assert told in shown.err
        assert shown.err.count("\n") == 1
        assert pod.ruleset() == ""
    pod.call(lambda: run(["capture", "uninstall"]))
