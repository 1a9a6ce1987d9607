"""The relay beside the resolver: its sockets are there from the start, all the rest once names are answered."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from ports import free_port
from resolving import ADDRESS_AND_AUTO, MESHDNS

WITHIN_S = 20.0


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@contextlib.contextmanager
def client_of_a_relay(home: Path, *options: str, modules: Path) -> Iterator[socket.socket]:
    """Start a resolver that finds libraries in `modules` first, and connect to its relay once it answers queries.

    No rule sent this client: a relay that takes it closes it.
    """
    (home / "resolv.conf").write_text("nameserver 127.0.0.99\n")
    relay = free_port()
    command = [
        *(*MESHDNS, "resolver", "run", "--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}"),
        *("--relay-listen", f"127.0.0.1:{relay}", "--no-heartbeat", "--resolv-conf", str(home / "resolv.conf")),
        *options,
    ]
    log = home / "log"
    environment = {**os.environ, "PYTHONPATH": str(modules)}
    with log.open("wb") as output, subprocess.Popen(command, stderr=output, env=environment) as process:
        try:
            wait_until(lambda: "answering on" in log.read_text())
            with socket.create_connection(("127.0.0.1", relay), timeout=WITHIN_S) as client:
                yield client
        finally:
            process.kill()


@pytest.fixture
def entries(tmp_path: Path) -> Sequence[str]:
    directory = tmp_path / "entries"
    directory.mkdir()
    (directory / "a.yaml").write_text(ADDRESS_AND_AUTO)
    return "--manifests", str(directory)


def test_clients_wait_while_the_first_load_is_under_way_and_are_taken_when_it_fails(
    entries: Sequence[str], tmp_path: Path
) -> None:
    """A load that hangs keeps the relay away, not the client; one that fails is an end of waiting too."""
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    (tmp_path / "yaml.py").write_text(f"open({str(hold)!r}).read(); raise SystemExit(1)")
    with client_of_a_relay(tmp_path, *entries, modules=tmp_path) as client:
        with hold.open("w"):
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)
            client.settimeout(WITHIN_S)
        assert client.recv(1) == b""


@pytest.mark.parametrize("manifests", ["some", "none"])
def test_the_relay_starts_by_itself(manifests: str, entries: Sequence[str], tmp_path: Path) -> None:
    """With entries, once they are loaded; without any there is nothing to wait for."""
    with client_of_a_relay(tmp_path, *(entries if manifests == "some" else ()), modules=tmp_path) as client:
        assert client.recv(1) == b""
