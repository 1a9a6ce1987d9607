"""A real `meshdns resolver run` for tests: ready when the block begins, ended with it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
from ports import free_port

MESHDNS = (sys.executable, "-m", "meshdns.init.cli")
READY_WITHIN_S = 20.0

ADDRESS_AND_AUTO = """\
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: external-address}
spec:
  addresses: [198.51.100.0]
  hosts: [address.internal]
  ports: [{name: http, number: 80, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: external-auto}
spec:
  hosts: [auto.internal]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 198.51.100.2}]
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A resolver that runs: its ports on 127.0.0.1, its process, and the file that its log goes to."""

    port: int
    admin: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, name: str, kind: str = "A", *, tcp: bool = False, timeout_s: float = 6) -> dns.message.Message:
        """Ask over UDP or TCP and return the reply."""
        query = dns.message.make_query(name, kind)
        send = dns.query.tcp if tcp else dns.query.udp
        return send(query, "127.0.0.1", timeout_s, self.port)

    def addresses(self, name: str, kind: str = "A") -> list[str]:
        """Return the addresses that the answer has, sorted."""
        wanted = dns.rdatatype.from_text(kind)
        return sorted(str(item) for rrset in self.ask(name, kind).answer for item in rrset if rrset.rdtype == wanted)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page of the admin port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=6) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return the body of a page, decoded."""
        return json.loads(self.get(path)[1])

    def wait_for(self, name: str, addresses: list[str], within_s: float = 3.0) -> float:
        """Wait until a name has these addresses; return the seconds that took."""
        began = time.monotonic()
        while (found := self.addresses(name)) != addresses:
            assert time.monotonic() - began < within_s, f"{name} is {found}, not {addresses}\n{self.log.read_text()}"
            time.sleep(0.02)
        return time.monotonic() - began


@contextlib.contextmanager
def running(
    manifests: Path,
    home: Path,
    *options: str,
    upstreams: str = "nameserver 127.0.0.99\n",
    under: tuple[str, ...] = (),
) -> Iterator[Running]:
    """Run a resolver without relay and heartbeat over `manifests`; `home` gets its files.

    `under` is a program that executes what follows it, such as prlimit.
    """
    home.mkdir(exist_ok=True)
    resolv_conf = home / "resolv.conf"
    if not resolv_conf.exists():
        resolv_conf.write_text(upstreams)
    port, admin = free_port(), free_port()
    log = home / "log"
    command = [
        *under, *MESHDNS, "resolver", "run", "--manifests", str(manifests), "--listen", f"127.0.0.1:{port}",
        "--resolv-conf", str(resolv_conf), "--admin", f"127.0.0.1:{admin}", "--no-relay", "--no-heartbeat", *options,
    ]  # fmt: skip
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        one = Running(port, admin, process, log)
        try:
            _wait_until_ready(one)
            yield one
        finally:
            process.kill()


def _wait_until_ready(one: Running) -> None:
    give_up = time.monotonic() + READY_WITHIN_S
    while True:
        with contextlib.suppress(OSError):
            if one.get("/readyz")[0] == 200:
                return
        assert one.process.poll() is None, one.log.read_text()
        assert time.monotonic() < give_up, one.log.read_text()
        time.sleep(0.02)
