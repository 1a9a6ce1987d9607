"""Capture, resolver and relay together, as applications meet them: dig, getent, curl, musl's stub, dnspython."""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest
from capturing import APP, LISTED, NODE, POD
from documents import commands
from namespaces import Namespace, namespace, veth
from proving import MESHDNS, capture, resolver
from resolving import ADDRESS_AND_AUTO

from meshdns.init import defaults

WEB = ("198.51.100.0", "198.51.100.2")
OUTSIDE_ADDRESS = "203.0.113.80"
FIRST_BEAT_S = 1.0


class World(NamedTuple):
    """A pod with rules installed, the directory of its manifests, and the resolv.conf that its programs see."""

    pod: Namespace
    entries: Path
    resolv_conf: Path

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a command in the pod as an ordinary user who sees the pod's resolv.conf."""
        inside = (
            f"mount --bind {self.resolv_conf} /etc/resolv.conf && "
            f"exec setpriv --reuid={APP} --regid={APP} --clear-groups {command}"
        )
        return self.pod.run("unshare", "--mount", "sh", "-c", inside, check=check).stdout

    def lookup(self, name: str, *, timeout_s: float = 1.0) -> dns.message.Message:
        """Ask the pod's nameserver for an A record, from a socket of an ordinary user."""
        with self.pod.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=APP) as client:
            query = dns.message.make_query(name, "A")
            return dns.query.udp(query, LISTED[0], timeout_s, sock=client)


@contextlib.contextmanager
def outside(home: Path) -> Iterator[tuple[Namespace, Namespace]]:
    """Make a pod and what is outside it: a nameserver that knows one name, two web servers, each with its own page."""
    with namespace() as pod, namespace() as beyond, contextlib.ExitStack() as running:
        veth(pod, "eth0", [f"{POD[0]}/24"], beyond, "eth0", [f"{NODE[0]}/24"])
        for address in (LISTED[0], *WEB):
            beyond.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        pod.run("ip", "route", "add", "default", "via", NODE[0])
        dnsmasq = ("dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--bind-interfaces", "--local-ttl=60")
        answers = (f"--listen-address={LISTED[0]}", f"--address=/outside.example/{OUTSIDE_ADDRESS}", "--pid-file")
        running.enter_context(beyond.running(*dnsmasq, *answers))
        for address in WEB:
            pages = home / address
            pages.mkdir(parents=True)
            (pages / "index.html").write_text(f"page of {address}\n")
            web = (sys.executable, "-m", "http.server", "--bind", address, "--directory", str(pages), "80")
            running.enter_context(beyond.running(*web))
        yield pod, beyond


@pytest.fixture
def world() -> Iterator[World]:
    """Make a pod whose manifests are the two of the README, and install the rules."""
    # Not pytest's directory: that one is closed to other users, and the resolver is one.
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        home.chmod(0o755)
        (home / "entries").mkdir()
        (home / "entries" / "external.yaml").write_text(ADDRESS_AND_AUTO)
        (home / "resolv.conf").write_text(f"nameserver {LISTED[0]}\noptions timeout:1 attempts:2\n")
        with outside(home / "web") as (pod, _):
            capture(pod, "install", "--resolv-conf", str(home / "resolv.conf"))
            yield World(pod, home / "entries", home / "resolv.conf")


@contextlib.contextmanager
def resolving(world: World) -> Iterator[int]:
    """Run the resolver until its first heartbeat has opened the switch; give its process id."""
    with resolver(world.pod, "--manifests", str(world.entries)) as process:
        wait_until(lambda: str(world.lookup("auto.internal").answer) != "[]", 5)
        yield process.pid


def wait_until(true: Callable[[], bool], within_s: float) -> None:
    """Wait until something is true."""
    give_up = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_every_kind_of_client_reaches_both_names(world: World) -> None:
    """dig, getent and curl resolve and reach both hosts over IPv4; the leased one by the relay, from its endpoint."""
    with resolving(world):
        assert world.run("dig +short address.internal").split() == [WEB[0]]
        assert world.run("dig +short +tcp auto.internal").split() == ["240.240.0.1"]
        assert world.run("getent ahostsv4 auto.internal").split()[0] == "240.240.0.1"
        assert world.run("getent hosts address.internal").split()[0] == WEB[0]
        assert world.run("curl -sS --max-time 5 address.internal") == f"page of {WEB[0]}\n"
        assert world.run("curl -sS --max-time 5 auto.internal") == f"page of {WEB[1]}\n"
        assert world.run("dig +short outside.example").split() == [OUTSIDE_ADDRESS]


def test_a_stub_that_asks_both_families_at_once_gets_both_answers(world: World) -> None:
    """As musl does it: A and AAAA from one socket at once; both come back NOERROR, AAAA without an address here."""
    with resolving(world), world.pod.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=APP) as stub:
        queries = {
            query.id: query for query in (dns.message.make_query("auto.internal", kind) for kind in ("A", "AAAA"))
        }
        for query in queries.values():
            stub.sendto(query.to_wire(), (LISTED[0], 53))
        while queries:
            packet, source = stub.recvfrom(4096)
            reply = dns.message.from_wire(packet)
            assert source == (LISTED[0], 53)
            assert reply.rcode() == dns.rcode.NOERROR
            query = queries.pop(reply.id)
            assert query.is_response(reply)
            assert bool(reply.answer) == (query.question[0].rdtype == dns.rdatatype.A)


def test_verify_passes(world: World) -> None:
    """`capture verify` finds nothing to complain about where everything runs."""
    with resolving(world):
        assert capture(world.pod, "verify").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_no_lookup_fails_that_is_sent_after_the_timeout(world: World, number: signal.Signals) -> None:
    """The resolver is killed or stopped while lookups are sent every 100 ms: none sent 3.5 s later or after fails."""
    with resolving(world) as pid:
        assert world.lookup("outside.example").answer
        world.pod.run("kill", f"-{int(number)}", str(pid))
        began = time.monotonic()
        last_failed_s = 0.0
        while (sent_s := time.monotonic() - began) < defaults.HEARTBEAT_TIMEOUT_S + 2.5:
            try:
                answered = bool(world.lookup("outside.example", timeout_s=0.1).answer)
            except (OSError, dns.exception.Timeout):
                answered = False
            if not answered:
                last_failed_s = sent_s
            time.sleep(max(0.0, 0.1 - (time.monotonic() - began - sent_s)))
        assert 0 < last_failed_s < defaults.HEARTBEAT_TIMEOUT_S + 0.5
        assert not world.lookup("address.internal").answer


def test_uninstalled_the_pod_is_as_before(world: World) -> None:
    """After `uninstall` no rule is left, and names are what the nameserver says."""
    with resolving(world):
        capture(world.pod, "uninstall")
        assert world.pod.ruleset() == ""
        assert world.run(f"dig +short {shlex.quote('address.internal')}") == ""


READ_ONLY = tuple(
    line
    for line in commands()
    if re.match(
        r"meshdns (resolver (query|explain|dump|vips|check)|capture (plan|status|diff|verify|doctor|explain)) ?", line
    )
)
PLACES = {"NAME": "auto.internal", "HOST": "auto.internal", "UID": str(APP), "NAMESERVER": LISTED[0]}
ANSWERED = {0, 1, 10}
"""Done; an RCODE, an error found, drift: answers all three."""


def test_what_the_documents_show_works(world: World) -> None:
    """Each command of README and docs/ that changes nothing gives an answer, in a pod with rules and a resolver."""
    assert len(READ_ONLY) > 15
    with resolving(world):
        for line in READ_ONLY:
            said = [PLACES.get(word, word) for word in shlex.split(line)]
            said = [str(world.entries) if "entries" in word else word for word in said]
            said = ["0" if word == "meshdns" and at else word for at, word in enumerate(said)]
            done = world.pod.run(MESHDNS, *said[1:], check=False)
            assert done.returncode in ANSWERED, f"{line}: {done.stderr}"
            assert done.stdout or "diff" in line, line  # like diff(1), it is silent where nothing differs
            assert done.stderr == "" or "warning" in done.stderr, f"{line}: {done.stderr}"
