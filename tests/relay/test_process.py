"""The relay as it is run: a process of its own under uid 1337, entries in a file, the kernel's redirect before it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.message
import pytest
from capturing import LISTED
from namespaces import Namespace
from proving import MESHDNS, resolver
from relaying import RELAY_UID, Behaviour, ask, connect, echoing, endpoint, prepare, read_all, telling

from meshdns.relay.server import CONNECTIONS_MAX, FILES_KEPT_FREE, FILES_PER_CONNECTION

WEB = "240.240.0.1"
SERVER = "127.0.1.1"
STORM = str(Path(__file__).parents[1] / "storm.py")

ENTRY = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.internal]
  ports: [{name: http, number: 80}, {name: https, number: 443}]
  resolution: STATIC
  endpoints: [{address: 127.0.1.1, weight: 1}, {address: 127.0.1.2, weight: 3}]
"""
ONE_ENDPOINT = ENTRY.replace(", {address: 127.0.1.2, weight: 3}", "")


@dataclass(frozen=True, slots=True)
class Running:
    """A resolver with its relay, in a pod."""

    pod: Namespace
    process: subprocess.Popen[bytes]
    entry: Path

    def answers(self) -> bool:
        """Ask it for the leased name, over UDP; False also when nothing comes back within a second."""
        query = dns.message.make_query("web.internal", "A")
        with self.pod.socket(socket.AF_INET, socket.SOCK_DGRAM, timeout_s=1) as client:
            client.sendto(query.to_wire(), ("127.0.0.1", 15053))
            try:
                reply = dns.message.from_wire(client.recv(4096))
            except OSError:
                return False
        return any(str(item) == WEB for rrset in reply.answer for item in rrset)

    def metric(self, name: str) -> int:
        """Give a metric's value."""
        page = self.pod.call(lambda: urllib.request.urlopen("http://127.0.0.1:15054/metrics", timeout=5).read())
        return next(int(float(line.split()[1])) for line in page.decode().splitlines() if line.startswith(f"{name} "))

    def peak_bytes(self) -> int:
        """Give how much memory it ever had resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))

    def files(self) -> set[int]:
        """List its descriptors."""
        return {int(one.name) for one in Path(f"/proc/{self.process.pid}/fd").iterdir()}

    def limit_files(self, limit: int) -> None:
        """Change the limit of open files, as its own user may."""
        owner = ("setpriv", f"--reuid={RELAY_UID}", f"--regid={RELAY_UID}", "--clear-groups")
        self.pod.run(*owner, "prlimit", f"--pid={self.process.pid}", f"--nofile={limit}:")


@contextlib.contextmanager
def running(pod: Namespace, entry: str) -> Iterator[Running]:
    """Run a resolver over one entry until the end of the block; it has its lease when the block begins."""
    prepare(pod)
    with tempfile.TemporaryDirectory() as directory:  # not pytest's: that one is closed to other users
        Path(directory).chmod(0o755)
        path = Path(directory, "entry.yaml")
        path.write_text(entry)
        with resolver(pod, "--manifests", directory) as process:
            one = Running(pod, process, path)
            until(one.answers, "the name has its lease")
            yield one


def until(true: Callable[[], bool], what: str, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


KINDS_OF_ENDPOINTS = {
    "a port by its name": """\
ports: [{name: http, number: 80, targetPort: 8000}]
  resolution: STATIC
  endpoints: [{address: 127.0.1.1, ports: {http: 8080}}]""",
    "targetPort": """\
ports: [{name: http, number: 80, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 127.0.1.1}]""",
    "DNS, an endpoint's name": """\
ports: [{name: http, number: 80, targetPort: 8080}]
  resolution: DNS
  endpoints: [{address: server.example}]""",
    "DNS, the host itself": """\
ports: [{name: http, number: 80, targetPort: 8080}]
  resolution: DNS""",
    "DNS_ROUND_ROBIN": """\
ports: [{name: http, number: 80, targetPort: 8080}]
  resolution: DNS_ROUND_ROBIN
  endpoints: [{address: server.example}]""",
    "workloadSelector": """\
ports: [{name: http, number: 80, targetPort: 8080}]
  resolution: STATIC
  workloadSelector: {labels: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: one}
spec: {address: 127.0.1.1, labels: {app: web}}""",
}


@pytest.mark.parametrize("spec", KINDS_OF_ENDPOINTS.values(), ids=KINDS_OF_ENDPOINTS)
def test_every_kind_of_endpoint_is_reached(pod: Namespace, spec: str) -> None:
    """From the manifest to the endpoint; names are asked of the upstream, never of our own table."""
    pod.run("ip", "address", "add", LISTED[0], "dev", "lo")
    upstream = ["dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file"]
    upstream += [f"--listen-address={LISTED[0]}", f"--address=/server.example/web.internal/{SERVER}"]
    entry = ENTRY.partition("  ports:")[0] + f"  {spec}\n"
    with (
        pod.running(*upstream),
        running(pod, entry) as one,
        endpoint(pod, SERVER, 8080, telling(b"reached")),
    ):
        assert ask(pod, WEB, 80) == b"reached"
        said = pod.run(MESHDNS, "resolver", "explain", f"{WEB}:80").stdout
        assert "web.internal" in said
        assert ":8080" in said
        assert "healthy" in said
        assert one.metric("meshdns_relay_connect_seconds_count") == 1


def test_weights_are_shares_of_connections(pod: Namespace) -> None:
    """Of weights 1 and 3 the second endpoint gets three of four connections, within 5 % of all."""
    with (
        running(pod, ENTRY),
        endpoint(pod, SERVER, 80, telling(b"1")),
        endpoint(pod, "127.0.1.2", 80, telling(b"3")),
    ):
        said = [ask(pod, WEB, 80) for _ in range(1000)]
    assert set(said) == {b"1", b"3"}
    assert abs(said.count(b"3") / len(said) - 0.75) < 0.05


def test_a_host_is_removed_while_connected(pod: Namespace) -> None:
    """The connection goes on; who comes later is reset."""
    with running(pod, ONE_ENDPOINT) as one, endpoint(pod, SERVER, 80, echoing), connect(pod, WEB, 80) as client:
        client.sendall(b"before")
        assert client.recv(10) == b"before"
        one.entry.write_text("")
        until(lambda: not one.answers(), "the name is gone")
        with pytest.raises(ConnectionResetError):
            ask(pod, WEB, 80)
        client.sendall(b"after")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"after"


def test_sigterm_lets_connections_finish(pod: Namespace) -> None:
    """After SIGTERM nobody new gets in, who is connected finishes, and the process ends with 0 when the last has."""
    with running(pod, ONE_ENDPOINT) as one, endpoint(pod, SERVER, 80, echoing), connect(pod, WEB, 80) as client:
        client.sendall(b"before")
        assert client.recv(10) == b"before"
        one.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                connect(pod, WEB, 80).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused, "nobody is accepted")
        client.sendall(b"after")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"after"
        assert one.process.wait(20) == 0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-made certificate and its key, as files."""

    certificate: Path
    key: Path


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    made = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    algorithm = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-subj", "/CN=web.internal", "-addext", "subjectAltName=DNS:web.internal", "-days", "2"]
    files = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(["openssl", "req", "-x509", *algorithm, *subject, *files], check=True, capture_output=True)
    return made


def test_openssl_sees_the_endpoint_s_certificate(pod: Namespace, certificate: Certificate) -> None:
    """`openssl s_client` verifies the certificate of the `openssl s_server` behind the lease, and is answered by it."""
    files = ["-cert", str(certificate.certificate), "-key", str(certificate.key)]
    server = ["openssl", "s_server", "-accept", f"{SERVER}:443", "-naccept", "1", "-rev", "-quiet", *files]
    client = ["openssl", "s_client", "-connect", f"{WEB}:443", "-servername", "web.internal", "-verify_return_error"]
    client += ["-verify_hostname", "web.internal", "-CAfile", str(certificate.certificate), "-ign_eof"]
    with running(pod, ONE_ENDPOINT), pod.running(*server):
        until(lambda: ":443" in pod.run("ss", "-Hltn", "sport = :443").stdout, "s_server listens")
        said = pod.run(*client, stdin="through the relay\nCLOSE\n").stdout
    assert "Verify return code: 0 (ok)" in said
    assert certificate.certificate.read_text().strip() in said
    assert "yaler eht hguorht\n" in said


def test_a_tls_session_outlives_a_half_close(pod: Namespace, certificate: Certificate) -> None:
    """The client ends its direction, and what the server encrypts after that still arrives, and verifies."""
    by_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    by_server.load_cert_chain(certificate.certificate, certificate.key)
    by_server.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # the end of TCP's direction is the end of what is said
    by_client = ssl.create_default_context(cafile=str(certificate.certificate))

    def answer_after_the_end(connection: socket.socket) -> None:
        with by_server.wrap_socket(connection, server_side=True) as tls:
            said = read_all(tls)
            tls.sendall(said.upper())
            tls.unwrap()

    with (
        running(pod, ONE_ENDPOINT),
        endpoint(pod, SERVER, 443, answer_after_the_end),
        by_client.wrap_socket(connect(pod, WEB, 443), server_hostname="web.internal") as tls,
    ):
        assert tls.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text())
        tls.sendall(b"said before the end")
        with socket.socket(fileno=os.dup(tls.fileno())) as below:
            below.shutdown(socket.SHUT_WR)
        assert read_all(tls) == b"SAID BEFORE THE END"


BLOCK = bytes(range(256)) * 4096
BLOCKS = 1024


def sending(blocks: int) -> Behaviour:
    """Send so many blocks, then end."""

    def send(connection: socket.socket) -> None:
        for _ in range(blocks):
            connection.sendall(BLOCK)
        connection.shutdown(socket.SHUT_WR)

    return send


@pytest.mark.timeout(180)
def test_a_gigabyte_arrives_whole(pod: Namespace) -> None:
    """1 GiB keeps its checksum, and the process never has 60 MB resident."""
    expected, digest = hashlib.sha1(usedforsecurity=False), hashlib.sha1(usedforsecurity=False)
    for _ in range(BLOCKS):
        expected.update(BLOCK)
    with running(pod, ONE_ENDPOINT) as one, endpoint(pod, SERVER, 80, sending(BLOCKS)), connect(pod, WEB, 80) as client:
        buffer = memoryview(bytearray(1 << 20))
        while count := client.recv_into(buffer):
            digest.update(buffer[:count])
        assert digest.digest() == expected.digest()
        assert one.peak_bytes() < 60_000_000


@contextlib.contextmanager
def echo_server(pod: Namespace) -> Iterator[None]:
    """Echo a byte per connection from a process of its own, which needs none of the descriptors in here."""
    with pod.running(sys.executable, STORM, "serve", SERVER, "80") as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield


def test_descriptors_run_out(pod: Namespace) -> None:
    """Who was accepted waits for a descriptor then, others wait to be accepted; none is refused, and DNS answers."""
    with running(pod, ONE_ENDPOINT) as one, echo_server(pod), contextlib.ExitStack() as stack:
        limit = open_files_limit(one.process.pid)
        used = one.files()
        one.limit_files(limit_that_leaves(5, used))
        waiting = [stack.enter_context(connect(pod, WEB, 80)) for _ in range(12)]
        for client in waiting:
            client.sendall(b".")
            client.settimeout(0.1)

        def all_answered() -> bool:
            for client in list(waiting):
                with contextlib.suppress(TimeoutError):
                    assert client.recv(1) == b"."
                    waiting.remove(client)
                    client.close()
            return not waiting

        assert one.answers()
        until(all_answered, "everybody was served")
        one.limit_files(limit)
        assert one.metric("meshdns_relay_accept_pauses_total") >= 1
        assert one.metric("meshdns_relay_accepted_total") == 12
        until(lambda: one.files() <= used, "all are closed")


def limit_that_leaves(count: int, used: set[int]) -> int:
    """Give the lowest limit of open files that leaves so many descriptors unused."""
    return [number for number in range(max(used) + count + 2) if number not in used][count]


CLIENTS = 20_000
SOURCES = tuple(f"192.0.2.{number}" for number in range(11, 15))


@pytest.mark.timeout(180)
def test_twenty_thousand_connections_at_once(pod: Namespace) -> None:
    """As many as the limit allows are relayed, others wait for their turn, and DNS answers all the while.

    The kernel has those that do not fit into the backlog try again, and resets a part of them; the relay none.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(plenty_of_files())
        one = stack.enter_context(running(pod, ONE_ENDPOINT))
        room = min(CONNECTIONS_MAX, (open_files_limit(one.process.pid) - FILES_KEPT_FREE) // FILES_PER_CONNECTION)
        for source in SOURCES:
            pod.run("ip", "address", "add", source, "dev", "lo")
        stack.enter_context(echo_server(pod))
        lookups = stack.enter_context(looking_up(one))
        each = str(CLIENTS // len(SOURCES))
        storms = [stack.enter_context(storm(pod, source, each)) for source in SOURCES]
        until(lambda: one.metric("meshdns_relay_open") == room, "all places are taken", 60)
        assert one.metric("meshdns_relay_accept_pauses_total") > 0
        assert len(one.files()) <= room * FILES_PER_CONNECTION + FILES_KEPT_FREE
        ends = ends_of(storms)
        assert ends.total() == CLIENTS
        assert set(ends) <= {"answered", "waiting", "ECONNRESET"}
        assert ends["answered"] >= room
        until(lambda: one.metric("meshdns_relay_open") == 0, "all have left")
        assert one.metric("meshdns_relay_accepted_total") >= ends["answered"]
        assert one.metric("meshdns_relay_connect_seconds_count") == one.metric("meshdns_relay_accepted_total")
        assert one.peak_bytes() < 35_000_000 + room * BYTES_PER_CONNECTION
        assert len(one.files()) < FILES_KEPT_FREE
    assert lookups.count(True) == len(lookups) > 0


def ends_of(storms: list[subprocess.Popen[bytes]]) -> Counter[str]:
    """Let all clients go, and count how their connections ended."""
    for process in storms:
        assert process.stdin is not None
        process.stdin.close()  # all of them, before any is waited for: they wait for each other
    ends = Counter[str]()
    for process in storms:
        assert process.stdout is not None
        ends.update(json.loads(process.stdout.read()))
    return ends


BYTES_PER_CONNECTION = 3_000
"""What a relayed connection may cost beside the buffers of the kernel."""


@contextlib.contextmanager
def storm(pod: Namespace, source: str, count: str) -> Iterator[subprocess.Popen[bytes]]:
    command = (sys.executable, STORM, "connect", source, WEB, "80", count)
    with pod.call(lambda: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def looking_up(one: Running) -> Iterator[list[bool]]:
    """Ask for the leased name all the while, one query after the other; whether each was answered."""
    answered: list[bool] = []
    over = threading.Event()

    def look_up() -> None:
        while not over.is_set():
            answered.append(one.answers())
            over.wait(0.02)

    thread = threading.Thread(target=look_up)
    thread.start()
    try:
        yield answered
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def plenty_of_files() -> Iterator[None]:
    """Let programs that are started meanwhile open what 20,000 connections need, if root may do that here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = max(before[1], CLIENTS * FILES_PER_CONNECTION)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, enough))
    except (PermissionError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_files_limit(pid: int) -> int:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(int(line.split()[3]) for line in lines if line.startswith("Max open files"))
