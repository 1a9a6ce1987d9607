"""Real DNS servers on loopback: dnsmasq, Unbound and NSD, as processes that can be stopped, continued and killed.

    with dnsmasq("--address=/www.example/192.0.2.1") as server:
        ... ask 127.0.0.1 port server.port ...
        server.pause(); server.resume(); server.kill()

Each has a port of its own and a directory of its own, and ends with the block. Only processes started here are ended,
by their id. A server that is not installed skips the test.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.query
import pytest
from ports import ADDRESS, free_port

START_S: Final = 10.0


@dataclass(slots=True)
class Server:
    """A running server: a process and those it forked, which share its session (NSD answers from a child)."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def endpoint(self) -> str:
        """ADDRESS:PORT."""
        return f"{ADDRESS}:{self.port}"

    def pause(self) -> None:
        """Stop it: its port stays open and says nothing."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once: its port is closed."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def dnsmasq(*options: str, port: int = 0) -> Iterator[Server]:
    """Run dnsmasq with these options and nothing from the machine's own files."""
    port = port or free_port()
    fixed = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=")
    bound = (f"--port={port}", f"--listen-address={ADDRESS}", "--bind-interfaces", f"--user={_user()}")
    with _running([_program("dnsmasq"), *fixed, *bound, *options], port) as server:
        yield server


@contextlib.contextmanager
def unbound(*lines: str, port: int = 0) -> Iterator[Server]:
    """Run Unbound with these lines in its `server:` clause, such as `local-data: "www.example. A 192.0.2.1"`."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="mdt-unbound-") as directory:
        fixed = (
            f"interface: {ADDRESS}@{port}", "do-daemonize: no", 'chroot: ""', 'username: ""', 'pidfile: ""',
            f'directory: "{directory}"', "use-syslog: no", "verbosity: 0", "num-threads: 1",
            'module-config: "iterator"', "do-not-query-localhost: no",
        )  # fmt: skip
        config = Path(directory, "unbound.conf")
        config.write_text("server:\n" + "".join(f"  {line}\n" for line in (*fixed, *lines)))
        with _running([_program("unbound"), "-d", "-c", str(config)], port) as server:
            yield server


@contextlib.contextmanager
def nsd(zone: str, *records: str, port: int = 0) -> Iterator[Server]:
    """Run NSD with one zone; `records` are lines of a zone file without SOA and NS."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="mdt-nsd-") as directory:
        Path(directory, "zone").write_text(
            f"$ORIGIN {zone}.\n$TTL 60\n@ SOA ns host 1 3600 600 86400 30\n@ NS ns\nns A {ADDRESS}\n"
            + "".join(f"{record}\n" for record in records)
        )
        config = Path(directory, "nsd.conf")
        config.write_text(
            f'server:\n  ip-address: {ADDRESS}@{port}\n  username: ""\n  chroot: ""\n  zonesdir: "{directory}"\n'
            f'  database: ""\n  pidfile: "{directory}/pid"\n  xfrdfile: "{directory}/xfrd"\n  server-count: 1\n'
            f'  zonelistfile: "{directory}/zonelist"\n  xfrdir: "{directory}"\n  cookie-secret-file: ""\n'
            "  rrl-ratelimit: 0\n"
            f"remote-control:\n  control-enable: no\nzone:\n  name: {zone}\n  zonefile: zone\n"
        )
        with _running([_program("nsd"), "-d", "-c", str(config)], port) as server:
            yield server


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _user() -> str:
    return "root" if os.geteuid() == 0 else ""


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[Server]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        server = Server(process, port)
        try:
            _await_answer(server, said)
            yield server
        finally:
            _end(process)


def _await_answer(server: Server, said: object) -> None:
    query = dns.message.make_query("start.invalid", "A")
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(dns.exception.DNSException, OSError):
            dns.query.udp(query, ADDRESS, timeout=0.2, port=server.port)
            return
        time.sleep(0.02)
    said.seek(0)  # type: ignore[attr-defined]
    raise RuntimeError(f"cannot start {server.process.args!r}: {said.read().decode()}")  # type: ignore[attr-defined]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and those it forked, which share its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
