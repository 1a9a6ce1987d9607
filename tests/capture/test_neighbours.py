"""Beside other tools' rules, laid as those tools lay them: capture works, and theirs are left as they were."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from capturing import LISTED, World, servers, spec, world
from namespaces import Namespace
from proving import resolver

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import inspect, install, new_record, uninstall
from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.prove.judge import Finding, Outcome
from meshdns.capture.prove.verify import Question, verify

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: other users' packets")

EXCLUDED = 4000
WANTED = spec(heartbeat_timeout_s=3.0, exclude_uids=(EXCLUDED,))
QUESTION = Question(None, (), "probe.meshdns.invalid", wait_s=0.8)

DOCKER_HOST = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -j RETURN
COMMIT
"""
DOCKER_AT = "127.0.0.11"
DOCKER_PORT = 40053
DOCKER_CONTAINER = f"""*nat
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
-A OUTPUT -d {DOCKER_AT}/32 -j DOCKER_OUTPUT
-A POSTROUTING -d {DOCKER_AT}/32 -j DOCKER_POSTROUTING
-A DOCKER_OUTPUT -d {DOCKER_AT}/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination {DOCKER_AT}:{DOCKER_PORT}
-A DOCKER_OUTPUT -d {DOCKER_AT}/32 -p udp -m udp --dport 53 -j DNAT --to-destination {DOCKER_AT}:{DOCKER_PORT}
-A DOCKER_POSTROUTING -s {DOCKER_AT}/32 -p tcp -m tcp --sport {DOCKER_PORT} -j SNAT --to-source :53
-A DOCKER_POSTROUTING -s {DOCKER_AT}/32 -p udp -m udp --sport {DOCKER_PORT} -j SNAT --to-source :53
COMMIT
"""
UFW = """*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:ufw-before-input - [0:0]
:ufw-before-output - [0:0]
:ufw-user-input - [0:0]
:ufw-not-local - [0:0]
-A INPUT -j ufw-before-input
-A OUTPUT -j ufw-before-output
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -j ufw-user-input
-A ufw-before-output -o lo -j ACCEPT
-A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -j DROP
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
"""
UFW6 = UFW.replace("-A ufw-before-input -j ufw-not-local\n", "-A ufw-before-input -p ipv6-icmp -j ACCEPT\n")
FIREWALLD = """
table inet firewalld {
    chain mangle_PREROUTING {
        type filter hook prerouting priority mangle + 10; policy accept;
    }
    chain nat_OUTPUT {
        type nat hook output priority -90; policy accept;
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        meta l4proto ipv6-icmp accept
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_OUTPUT {
        type filter hook output priority filter + 10; policy accept;
        ct state { established, related } accept
        oifname "lo" accept
    }
}
"""
ISTIO = """*nat
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 15099
-A ISTIO_OUTPUT -p udp -m udp --dport 53 -j REDIRECT --to-ports 15099
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15098
COMMIT
*raw
-A OUTPUT -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1
-A OUTPUT -p udp -m udp --sport 15099 -m owner --uid-owner 1337 -j CT --zone 2
-A OUTPUT -d 10.96.0.10/32 -p udp -m udp --dport 53 -j CT --zone 2
-A PREROUTING -s 10.96.0.10/32 -p udp -m udp --sport 53 -j CT --zone 1
COMMIT
"""
STATEFUL = """
table inet firewall {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname "lo" accept
        meta l4proto ipv6-icmp accept
    }
    chain output {
        type filter hook output priority 0; policy drop;
        ct state established,related accept
        oifname "lo" accept
        meta l4proto { tcp, udp } accept
        meta l4proto ipv6-icmp accept
    }
}
"""
SAME_PRIORITIES = """
table inet other {
    chain zone {
        type filter hook output priority -300; policy accept;
        udp dport 53 counter accept
    }
    chain nat {
        type nat hook output priority -101; policy accept;
        meta l4proto { tcp, udp } th dport 53 counter accept
        tcp dport 81 redirect to :80
    }
    chain rest {
        type filter hook output priority 0; policy accept;
        counter accept
    }
}
"""


def _nft(text: str) -> Callable[[Namespace], object]:
    return lambda pod: pod.run("nft", "-f", "-", stdin=text)


def _iptables(text: str, text6: str | None = None, variant: str = "nft") -> Callable[[Namespace], object]:
    def lay(pod: Namespace) -> None:
        pod.run(f"iptables-{variant}-restore", "--noflush", "--wait", "5", stdin=text)
        if text6:
            pod.run(f"ip6tables-{variant}-restore", "--noflush", "--wait", "5", stdin=text6)

    return lay


NEIGHBOURS: dict[str, Callable[[Namespace], object]] = {
    "Docker on the host": _iptables(DOCKER_HOST),
    "Docker on the host, legacy": _iptables(DOCKER_HOST, variant="legacy"),
    "ufw": _iptables(UFW, UFW6),
    "firewalld": _nft(FIREWALLD),
    "Istio": _iptables(ISTIO),
    "a stateful firewall that drops": _nft(STATEFUL),
    "a table at the same priorities": _nft(SAME_PRIORITIES),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A pod with a resolver in it, and outside it nameservers that answer `direct`."""

    world: World

    @property
    def pod(self) -> Namespace:
        return self.world.pod

    def install(self, backend: str, wanted: CaptureSpec = WANTED) -> None:
        made = BACKENDS[backend]()
        self.pod.call(lambda: install(made, new_record(wanted, made, "1", 1)))

    def failed(self, backend: str) -> list[Finding]:
        """Return what verification finds wrong."""
        made = BACKENDS[backend]()
        found = self.pod.call(lambda: list(verify(made, QUESTION)))
        return [one for one in found if one.outcome is not Outcome.PROVEN]

    def condition(self, backend: str) -> Condition:
        made = BACKENDS[backend]()
        return self.pod.call(lambda: inspect(made)).condition

    def uninstall(self, backend: str) -> None:
        made = BACKENDS[backend]()
        self.pod.call(lambda: uninstall(made))

    def answer_to(self, uid: int, server: str) -> bytes:
        """Return what a user gets who asks a server over UDP."""
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with self.pod.socket(family, socket.SOCK_DGRAM, uid=uid) as client:
            client.connect((server, 53))
            client.send(b"who?")
            return client.recv(64)

    def others(self) -> str:
        """Return everybody's rules but ours, without counters."""
        saved = [self.pod.run(f"{family}-legacy-save").stdout for family in ("iptables", "ip6tables")]
        kept = [line for text in saved for line in text.splitlines() if line.startswith("-")]
        return self.pod.ruleset() + "\n".join(kept)


@pytest.fixture
def place() -> Iterator[Place]:
    with world(resolver=False) as made, resolver(made.pod):
        yield Place(made)


@pytest.mark.parametrize("backend", ["nft", "iptables-nft"])
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_works_beside(place: Place, neighbour: str, backend: str) -> None:
    """Verification passes, an excluded user's lookups go where they went, and the others' rules are as before."""
    NEIGHBOURS[neighbour](place.pod)
    place.install(backend)  # before the comparison: the built-in tables that it needs stay when it goes
    place.uninstall(backend)
    before = place.others()
    place.install(backend)
    assert not place.failed(backend)
    expected = b"istio" if neighbour == "Istio" else b"direct"
    with _istio(place.pod) if neighbour == "Istio" else contextlib.nullcontext():
        assert place.answer_to(EXCLUDED, LISTED[0]) == expected
    assert place.answer_to(EXCLUDED, LISTED[1]) == b"direct"
    place.uninstall(backend)
    assert place.others() == before


@pytest.mark.parametrize("backend", ["nft", "iptables-nft"])
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_works_beside_who_comes_later(place: Place, neighbour: str, backend: str) -> None:
    """Rules that others load after ours take nothing from us, are no drift, and stay when ours go."""
    place.install(backend)
    NEIGHBOURS[neighbour](place.pod)
    assert place.condition(backend) is Condition.SAME
    assert not place.failed(backend)
    expected = b"istio" if neighbour == "Istio" else b"direct"
    with _istio(place.pod) if neighbour == "Istio" else contextlib.nullcontext():
        assert place.answer_to(EXCLUDED, LISTED[0]) == expected
    place.uninstall(backend)
    assert "MESHDNS" not in place.others()
    assert "meshdns" not in place.others()
    with _istio(place.pod) if neighbour == "Istio" else contextlib.nullcontext():
        assert place.answer_to(EXCLUDED, LISTED[0]) == expected


@contextlib.contextmanager
def _answering(pod: Namespace, address: str, port: int, words: bytes) -> Iterator[None]:
    """Answer datagrams at an address of the pod's until the end of the block."""
    with pod.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=1337) as server:
        server.bind((address, port))
        server.settimeout(0.2)
        stop = threading.Event()

        def answer() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError, ConnectionError):
                    _, client = server.recvfrom(512)
                    server.sendto(words, client)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _istio(pod: Namespace) -> contextlib.AbstractContextManager[None]:
    return _answering(pod, "127.0.0.1", 15099, b"istio")


@pytest.mark.parametrize("backend", ["nft", "iptables-nft"])
@pytest.mark.parametrize("first", ["Docker's", "ours"])
def test_captures_dockers_own_nameserver(place: Place, backend: str, first: str) -> None:
    """Docker's own nameserver is captured, whichever rules were first, and the proxy reaches the real one."""
    wanted = spec(heartbeat_timeout_s=3.0, exclude_uids=(EXCLUDED,), dns_servers=servers(DOCKER_AT))
    with _answering(place.pod, DOCKER_AT, DOCKER_PORT, b"docker"):
        if first == "Docker's":
            _iptables(DOCKER_CONTAINER)(place.pod)
        place.install(backend, wanted)
        if first == "ours":
            _iptables(DOCKER_CONTAINER)(place.pod)
        assert not place.failed(backend)
        assert place.answer_to(EXCLUDED, DOCKER_AT) == b"docker"
        assert place.answer_to(1337, DOCKER_AT) == b"docker"


ABOVE: dict[str, tuple[str, tuple[str, ...]]] = {
    "in our nft chain": (
        "nft",
        ("nft", "insert", "rule", "inet", "meshdns", "nat", "udp", "dport", "53", "accept"),
    ),
    "before our jump": (
        "iptables-nft",
        ("iptables-nft", "-t", "nat", "-I", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "ACCEPT"),
    ),
    "before our legacy jump": (
        "iptables-legacy",
        ("iptables-legacy", "-w", "5", "-t", "nat", "-I", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "ACCEPT"),
    ),
}


@pytest.mark.parametrize("case", ABOVE)
def test_a_rule_above_ours_is_drift_and_named(place: Place, case: str) -> None:
    """A rule above ours that takes lookups away is drift, and verification says which step fails."""
    backend, command = ABOVE[case]
    place.install(backend)
    place.pod.run(*command)
    assert place.condition(backend) is not Condition.SAME
    assert "udp lookup at 10.96.0.10 as uid 65534" in {one.step for one in place.failed(backend)}
    place.install(backend)
    assert place.condition(backend) is Condition.SAME
    assert not place.failed(backend)


def test_nat_of_somebody_else_that_comes_first_is_noticed(place: Place) -> None:
    """At our own priority whoever is loaded last is asked first; where that takes lookups, verification tells."""
    place.install("nft")
    thief = SAME_PRIORITIES.replace("th dport 53 counter accept", "th dport 53 redirect to :15099")
    _nft(thief)(place.pod)
    assert "udp lookup at 10.96.0.10 as uid 65534" in {one.step for one in place.failed("nft")}
