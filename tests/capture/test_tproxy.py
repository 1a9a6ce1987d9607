"""TPROXY for inbound TCP: addresses kept, nothing looped, and what it needs of routing comes and goes with it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from capturing import NODE, POD, PROXY, TRANSPARENT, TRIED, Probe, World, ports, spec, world
from namespaces import Namespace

from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import inspect
from meshdns.capture.dialects.nft.backend import NftBackend
from meshdns.capture.errors import ApplyError
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Fate
from meshdns.capture.policy.spec import ALL_PORTS, CaptureSpec, Family, InboundMode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

TPROXY = spec(inbound_ports=(ALL_PORTS,), exclude_inbound_ports=ports(22), inbound_mode=InboundMode.TPROXY)
FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


@pytest.fixture(params=TRIED)
def there(request: pytest.FixtureRequest) -> Iterator[World]:
    with world(resolver=False, backend=request.param) as made:
        yield made


@pytest.fixture
def pod() -> Iterator[World]:
    """Give a world by nft: routing does not care for the dialect."""
    with world(resolver=False) as made:
        yield made


def _routing(pod: Namespace) -> str:
    """Return everything that `ip` knows of rules, routes of every table, and addresses."""
    shown = [("rule",), ("-6", "rule"), ("route", "show", "table", "all"), ("-6", "route", "show", "table", "all")]
    return "".join(pod.run("ip", *words).stdout for words in (*shown, ("address", "show", "dev", "lo")))


def _listener(there: World, family: int, port: int, *, transparent: bool = False) -> socket.socket:
    made = there.pod.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if transparent:
        made.setsockopt(*TRANSPARENT[family], 1)
    made.bind(("0.0.0.0" if family == socket.AF_INET else "::", port))
    made.listen()
    return made


def _received(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := stream.recv(count - len(data))):
        data += more
    return data


@pytest.mark.parametrize("name", FAMILIES)
def test_source_and_destination_are_kept(there: World, name: str) -> None:
    """The proxy's listener gets the connection with both addresses as the client sent them, and talks back by them."""
    number = list(FAMILIES).index(name)
    there.install(TPROXY)
    with (
        closing(_listener(there, FAMILIES[name], 15006, transparent=True)) as proxy,
        there.outside.socket(FAMILIES[name], socket.SOCK_STREAM) as client,
    ):
        client.bind((NODE[number], 34567))
        client.connect((POD[number], 7777))
        connection, peer = proxy.accept()
        with connection:
            assert connection.getsockname()[:2] == (POD[number], 7777)
            assert peer[:2] == (NODE[number], 34567)
            for data in (b"x" * 100_000, b"y"):
                client.sendall(data)
                assert _received(connection, len(data)) == data
                connection.sendall(data)
                assert _received(client, len(data)) == data
    counted = {rule.rule.id: rule.packets for chain in there.held().chains for rule in chain.rules if rule.rule}
    digit = name[-1]
    assert counted[f"in-tproxy-{digit}"] == 1
    assert counted[f"in-tproxy-divert-{digit}"] > 4


@pytest.mark.parametrize("name", FAMILIES)
def test_a_proxy_that_calls_by_its_clients_address_is_answered(there: World, name: str) -> None:
    """The application sees its client's address, as with Envoy's original_src, and its answers find the proxy."""
    number, family = list(FAMILIES).index(name), FAMILIES[name]
    there.install(TPROXY)
    with (
        closing(_listener(there, family, 15006, transparent=True)) as proxy,
        closing(_listener(there, family, 7777)) as application,
        there.outside.socket(family, socket.SOCK_STREAM) as client,
        there.pod.socket(family, socket.SOCK_STREAM) as upstream,
    ):
        client.bind((NODE[number], 34567))
        client.connect((POD[number], 7777))
        inbound, peer = proxy.accept()
        upstream.settimeout(5)
        upstream.setsockopt(*TRANSPARENT[family], 1)
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, TPROXY.tproxy_mark)
        upstream.bind((peer[0], 0))
        upstream.connect((POD[number], 7777))
        called, caller = application.accept()
        with inbound, called:
            assert caller[0] == NODE[number]
            for data in (b"x" * 100_000, b"y"):
                upstream.sendall(data)
                assert _received(called, len(data)) == data
                called.sendall(data)
                assert _received(upstream, len(data)) == data
                inbound.sendall(data)
                assert _received(client, len(data)) == data
    counted = {rule.rule.id: rule.packets for chain in there.held().chains for rule in chain.rules if rule.rule}
    assert counted[f"in-tproxy-keep-{name[-1]}"] > 4
    assert counted[f"out-tproxy-{name[-1]}"] > 4


@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_connected_before_stays_connected(there: World, name: str) -> None:
    """A connection from before goes on with the application, through the install and the uninstall."""
    number = list(FAMILIES).index(name)
    with (
        closing(_listener(there, FAMILIES[name], 7777)) as application,
        there.outside.socket(FAMILIES[name], socket.SOCK_STREAM) as client,
    ):
        client.connect((POD[number], 7777))
        connection, _ = application.accept()
        with connection:
            for step in (lambda: there.install(TPROXY), there.uninstall, lambda: None):
                client.sendall(b"ping")
                assert connection.recv(4) == b"ping"
                connection.sendall(b"pong")
                assert client.recv(4) == b"pong"
                step()


def test_connections_of_the_machine_itself_are_not_taken(there: World) -> None:
    """Answers to what the pod asks others are its own, whatever ports are captured."""
    there.install(TPROXY)
    for address in NODE:
        assert there.send(Probe("", address, 80, Protocol.TCP)) == (Fate.DIRECT, None)


def test_without_a_proxy_nothing_passes_it_by(there: World) -> None:
    """While nobody listens, a captured connection is dropped in every dialect; an excluded port goes on."""
    there.install(TPROXY)
    for address in POD:
        assert there.send(Probe("", address, 80, Protocol.TCP, inbound=True)) == (Fate.DROP, None)
        assert there.send(Probe("", address, 22, Protocol.TCP, inbound=True)) == (Fate.DIRECT, None)


def test_what_the_proxy_marks_never_comes_back_to_it(there: World) -> None:
    """The proxy's connection to an application of its machine is no hairpin when it bears the mark."""
    there.install(TPROXY)
    with closing(_listener(there, socket.AF_INET, 15006, transparent=True)):
        marked = Probe("", POD[0], 80, Protocol.TCP, uid=PROXY, gid=PROXY, mark=TPROXY.tproxy_mark)
        assert there.send(marked) == (Fate.DIRECT, None)


def test_routing_comes_and_goes_with_it(pod: World) -> None:
    """Installing adds a rule and a route for each family and ::6; again adds nothing; uninstall leaves what was."""
    before = _routing(pod.pod)
    assert pod.install(TPROXY)
    once = _routing(pod.pod)
    for text in ("fwmark 0x539 lookup 133", "local default dev lo table 133", "inet6 ::6/128"):
        assert text in once
    assert once.count("lookup 133") == 2
    assert not pod.install(TPROXY)
    assert _routing(pod.pod) == once
    assert pod.uninstall()
    assert _routing(pod.pod) == before


REPLACED: dict[str, tuple[CaptureSpec, list[str]]] = {
    "another mark and table": (replace(TPROXY, tproxy_mark=7, tproxy_table=200), ["0x7 lookup 200", "table 200"]),
    "one family": (replace(TPROXY, families=(Family.IPV4,)), ["0x539 lookup 133", "lo table 133"]),
    "by redirect": (replace(TPROXY, inbound_mode=InboundMode.REDIRECT), []),
    "no inbound": (replace(TPROXY, inbound_ports=()), []),
}


@pytest.mark.parametrize("name", REPLACED)
def test_routing_is_replaced_with_the_rules(pod: World, name: str) -> None:
    """Another configuration leaves of routing what it needs itself, and nothing of the one before."""
    other, expected = REPLACED[name]
    pod.install(other)
    alone = _routing(pod.pod)
    assert all(text in alone for text in expected)
    pod.uninstall()
    pod.install(TPROXY)
    pod.install(other)
    assert _routing(pod.pod) == alone


DAMAGE = {
    "a rule": (("rule", "del", "priority", "133"), "- ipv4 rule: fwmark 1337 lookup 133"),
    "a route": (("-6", "route", "flush", "table", "133"), "- ipv6 route: local default dev lo table 133"),
    "the address": (("address", "del", "::6/128", "dev", "lo"), "- address ::6/128 on lo"),
    "a rule too many": (
        ("rule", "add", "priority", "133", "fwmark", "9", "lookup", "133", "proto", "133"),
        "+ ipv4 rule: fwmark 9 lookup 133",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_drift_and_is_mended(pod: World, name: str) -> None:
    """What is missing or too much in routing is told by `diff` and put right by the next install."""
    command, told = DAMAGE[name]
    pod.install(TPROXY)
    whole = _routing(pod.pod)
    pod.pod.run("ip", *command)
    found = pod.pod.call(lambda: inspect(pod.backend))
    assert (found.condition, found.drift) == (Condition.STALE, (told,))
    assert pod.install(TPROXY)
    assert _routing(pod.pod) == whole


def test_what_others_put_there_is_left(pod: World) -> None:
    """Rules, routes and addresses of somebody else, the same as ours too, outlive an uninstall, and are no drift."""
    for words in (
        ("rule", "add", "priority", "133", "fwmark", "8", "lookup", "133"),
        ("rule", "add", "priority", "133", "fwmark", "1337", "lookup", "133"),
        ("route", "add", "local", "192.0.2.0/24", "dev", "lo", "table", "133"),
        ("route", "add", "local", "default", "dev", "lo", "table", "133"),
        ("-6", "route", "add", "local", "default", "dev", "lo", "table", "133"),
        ("address", "add", "::6/128", "dev", "lo", "nodad"),
    ):
        pod.pod.run("ip", *words)
    before = _routing(pod.pod)
    pod.install(TPROXY)
    assert pod.pod.call(lambda: inspect(pod.backend)).condition is Condition.SAME
    assert not pod.install(TPROXY)
    pod.uninstall()
    assert _routing(pod.pod) == before


def test_without_its_record_it_is_removed_all_the_same(pod: World) -> None:
    """After somebody's `flush ruleset`, uninstall still finds what stands in routing."""
    before = _routing(pod.pod)
    pod.install(TPROXY)
    pod.pod.call(pod.backend.remove)
    assert pod.uninstall()
    assert _routing(pod.pod) == before


class Refusing(NftBackend):
    """The nft backend of a kernel that takes no more rules."""

    def replace(self, *_: object) -> None:
        raise ApplyError("cannot load the rules: refused")


def test_a_refused_replacement_leaves_routing_as_it_was(pod: World) -> None:
    """Where the kernel refuses the rules, routing is what the rules before needed."""
    pod.install(spec())
    before = _routing(pod.pod)
    pod.backend = Refusing()
    with pytest.raises(ApplyError):
        pod.install(TPROXY)
    assert _routing(pod.pod) == before


def test_pyroute2_is_not_imported_without_it(pod: World) -> None:
    """Installing, comparing and removing rules without TPROXY starts none of the library that TPROXY takes."""
    program = (
        "import sys\n"
        "from meshdns.init.cli import run\n"
        "for command in (['install', '--dns-servers', '10.96.0.10'], ['status'], ['diff'], ['uninstall']):\n"
        f"    assert run(['capture', *command, '--backend', {pod.backend.name!r}]) == 0, command\n"
        "assert 'pyroute2' not in sys.modules\n"
    )
    pod.pod.run(sys.executable, "-c", program)
