"""What the tests of `verify`, `watch`, `doctor` and their like share: a pod, what is outside it, and a real resolver.

with pod() as there, resolver(there):
    capture(there, "install")
    assert capture(there, "verify").returncode == 0
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from capturing import LISTED, NODE, PROXY
from namespaces import Namespace, namespace, veth

MESHDNS = str(Path(sys.executable).with_name("meshdns"))
UNLISTED = ("192.0.2.53", "2001:db8::53")
READY_WITHIN_S = 20


@contextlib.contextmanager
def pod() -> Iterator[Namespace]:
    """Make a pod with default routes in both families; outside there are nameservers, which refuse at once."""
    with namespace() as made, namespace() as outside:
        veth(made, "eth0", ["10.0.0.2/24", "fd00::2/64"], outside, "eth0", ["10.0.0.1/24", "fd00::1/64"])
        # A kernel refuses a datagram once a second per client, unless it is told otherwise.
        outside.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        for address in (*LISTED, *UNLISTED):
            outside.run("ip", "address", "add", address, "dev", "lo", "nodad")
        for address in NODE:
            made.run("ip", "route", "add", "default", "via", address)
        yield made


@contextlib.contextmanager
def resolver(there: Namespace, *options: str, uid: int = PROXY) -> Iterator[subprocess.Popen[bytes]]:
    """Run `meshdns resolver run` in there until it answers, as the proxy; killed at the end."""
    # With the right to read, because the interpreter may lie where only root can see it.
    owner = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    may_read = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    command = (*owner, *may_read, MESHDNS, "resolver", "run", "--upstream", LISTED[0], "--log-level", "error", *options)
    with there.running(*command) as process:
        _wait_until_answering(there, process)
        yield process


def _wait_until_answering(there: Namespace, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with there.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            if client.connect_ex(("127.0.0.1", 15054)) == 0:
                return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"no resolver: {process.stdout.read().decode() if process.stdout else ''}")


def capture(there: Namespace, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a `meshdns capture` command in there, as root."""
    return there.run(MESHDNS, "capture", *arguments, check=check)


def delete_rules(there: Namespace, *ids: str, backend: str = "nft") -> None:
    """Remove the rules of these ids from the kernel by hand, in every family."""
    if backend != "nft":
        _delete_iptables_rules(there, ids, backend.removeprefix("iptables-"))
        return
    listing = json.loads(there.run("nft", "-j", "-a", "list", "table", "inet", "meshdns").stdout)["nftables"]
    rules = [item["rule"] for item in listing if "rule" in item]
    found = [rule for rule in rules if rule.get("comment") in ids]
    assert {rule["comment"] for rule in found} == set(ids)
    script = "".join(f"delete rule inet meshdns {rule['chain']} handle {rule['handle']}\n" for rule in found)
    there.run("nft", "-f", "-", stdin=script)


def _delete_iptables_rules(there: Namespace, ids: tuple[str, ...], variant: str) -> None:
    deleted = set()
    for program in ("iptables", "ip6tables"):
        table = ""
        for line in there.run(f"{program}-{variant}-save").stdout.splitlines():
            table = line[1:] if line.startswith("*") else table
            found = [one for one in ids if f"--comment {one} " in f"{line} "]
            if line.startswith("-A MESHDNS_") and found:
                deleted.update(found)
                script = f"*{table}\n-D {line.removeprefix('-A ')}\nCOMMIT\n"
                there.run(f"{program}-{variant}-restore", "--noflush", "--wait", "5", stdin=script)
    assert deleted == set(ids)
