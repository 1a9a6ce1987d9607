"""Which endpoint a client of a pool address reaches: real sockets, a real redirect, a namespace per test."""

from __future__ import annotations

import contextlib
import logging
import socket
import tempfile
import threading
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from namespaces import Namespace
from relaying import (
    SETTINGS,
    Answer,
    Zone,
    ask,
    connect,
    echoing,
    endpoint,
    hanging,
    read_all,
    relaying,
    routes,
    serving,
    telling,
)

from meshdns.relay.route import Routes

WEB = "240.240.0.1"
FIRST, SECOND = "127.0.1.1", "127.0.1.2"
SILENT, SILENT6 = "203.0.113.1", "2001:db8:dead::1"
QUICK = replace(SETTINGS, attempt_delay_s=0.2, connect_timeout_s=0.6)


FAILING: Zone = {("failing.example", 4): OSError(), ("failing.example", 6): OSError()}


def in_order() -> float:
    """Draw so that endpoints of one weight are tried in the order they are given in."""
    return 0.5


def web(*endpoints: str) -> Routes:
    return routes({WEB: ("web.internal", [80], endpoints)})


def test_a_leased_address_leads_to_its_endpoint(pod: Namespace) -> None:
    """In IPv4 and IPv6 bytes go both ways and are counted, and the access log says what happened."""
    both = routes({a: ("web.internal", [80], [FIRST]) for a in (WEB, "2001:2::1")})
    with relaying(pod, both) as relay, endpoint(pod, FIRST, 80, echoing):
        assert relay.warnings == ()
        for address in (WEB, "2001:2::1"):
            with connect(pod, address, 80) as client:
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"hello"
        relay.until(lambda it: it.counters.open == 0, "all closed")
        counters = relay.relay.counters
        assert (counters.accepted, counters.sent_bytes, counters.received_bytes) == (2, 10, 10)
        assert sum(counters.connect_counts) == 2
        first, second = relay.lines
        assert first["client"].startswith("192.0.2.1:")
        assert second["client"].startswith("[2001:db8::1]:")
        assert second["destination"] == "[2001:2::1]:80"
        for line in relay.lines:
            assert line["host"] == "web.internal"
            assert line["endpoint"] == "127.0.1.1:80"
            assert line["end"] == "closed"
            assert (line["sent_bytes"], line["received_bytes"]) == (5, 5)
            assert 0 <= line["connect_ms"] <= line["duration_ms"]


def test_one_of_two_endpoints_is_killed(pod: Namespace) -> None:
    """Of 1,000 connections not one fails when an endpoint goes away among them."""
    with relaying(pod, web(FIRST, SECOND)) as relay, endpoint(pod, FIRST, 80, telling(b"first")):
        said = []
        with endpoint(pod, SECOND, 80, telling(b"second")):
            said += [ask(pod, WEB, 80) for _ in range(300)]
        said += [ask(pod, WEB, 80) for _ in range(700)]
        assert set(said) == {b"first", b"second"}
        assert 100 < said[:300].count(b"first") < 200
        assert set(said[300:]) == {b"first"}
        assert relay.relay.counters.failures == {}


def test_an_endpoint_that_does_not_answer_costs_one_delay_once(pod: Namespace) -> None:
    """After the delay the next one is tried, and the silent one rests: `health` says so."""
    with (
        relaying(pod, web(SILENT, FIRST), QUICK, draw=in_order) as relay,
        endpoint(pod, FIRST, 80, telling(b"first")),
    ):
        assert ask(pod, WEB, 80) == b"first"
        silent, first = relay.call(lambda: relay.relay.health(ip_address(WEB)))
        assert relay.call(lambda: relay.relay.health(ip_address(WEB), 81)) != (silent, first)
        assert relay.call(lambda: relay.relay.health(ip_address("240.240.9.9"))) == ()
        assert (silent.endpoint, first.endpoint) == (f"{SILENT}:80", f"{FIRST}:80")
        assert silent.rest_left_s > 0
        assert first.rest_left_s == 0
        assert ask(pod, WEB, 80) == b"first"
        relay.until(lambda it: it.counters.open == 0, "all closed")
        slow, quick = (line["connect_ms"] for line in relay.lines)
        assert slow >= 200
        assert quick < 200


def test_an_attempt_that_answers_late_still_wins(pod: Namespace) -> None:
    """Attempts stay open while later ones are made: the SYN that is sent again after a second connects."""
    patient = replace(SETTINGS, attempt_delay_s=0.1)
    with relaying(pod, web(SILENT, "203.0.113.2"), patient, draw=in_order) as relay:
        pod.run("ip", "address", "add", SILENT, "dev", "lo")
        with endpoint(pod, SILENT, 80, telling(b"late")), connect(pod, WEB, 80) as client:
            time.sleep(0.3)
            pod.run("nft", "flush", "chain", "inet", "mdt", "in")
            assert read_all(client) == b"late"
        relay.until(lambda it: it.counters.open == 0, "closed")
        assert relay.lines[0]["endpoint"] == f"{SILENT}:80"


def test_endpoints_that_all_rest_are_tried_all_the_same(pod: Namespace) -> None:
    """A client is never turned away for what happened to others."""
    with relaying(pod, web(FIRST)) as relay:
        with pytest.raises(ConnectionResetError):
            ask(pod, WEB, 80)
        with endpoint(pod, FIRST, 80, telling(b"back")):
            assert ask(pod, WEB, 80) == b"back"
        (health,) = relay.call(lambda: relay.relay.health(ip_address(WEB)))
        assert health.rest_left_s == 0


@pytest.mark.parametrize(
    ("endpoints", "zone", "reason"),
    [
        pytest.param([FIRST], {}, "refused", id="nobody listens"),
        pytest.param([SILENT], {}, "timeout", id="nobody answers"),
        pytest.param([], {}, "no-endpoint", id="no endpoint"),
        pytest.param(["unix:///nowhere"], {}, "unreachable", id="no such path"),
        pytest.param(["unix://" + "x" * 200], {}, "error", id="a path that is too long"),
        pytest.param(["unix:///a\0b"], {}, "unreachable", id="a path with a zero byte"),
        pytest.param(["nowhere.example"], {}, "unresolved", id="a name without addresses"),
        pytest.param(
            ["x.example"], {("x.example", 4): OSError(), ("x.example", 6): OSError()}, "unresolved", id="failure"
        ),
        pytest.param(["240.240.0.7"], {}, "loop", id="a pool address"),
        pytest.param(["127.0.0.1"], {}, "loop", id="the relay itself"),
        pytest.param(["x.example"], {("x.example", 4): Answer((ip_address(WEB),))}, "loop", id="a name in the pool"),
        pytest.param(
            ["x.example"], {("x.example", 6): Answer((ip_address("::ffff:240.240.0.1"),))}, "loop", id="mapped pool"
        ),
    ],
)
def test_no_endpoint_is_reached(
    pod: Namespace, endpoints: list[str], zone: Zone, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is reset, each time is counted under host and reason, and said once until routes change."""
    port = 15001 if endpoints == ["127.0.0.1"] else 80
    unreachable = routes({WEB: ("web.internal", [port], endpoints)})
    with caplog.at_level(logging.WARNING, "meshdns.relay"), relaying(pod, unreachable, QUICK, zone=zone) as relay:
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                ask(pod, WEB, port)
        relay.until(lambda it: it.counters.open == 0, "all closed")
        assert relay.relay.counters.failures == {("web.internal", reason): 2}
        assert [line["end"] for line in relay.lines] == [reason, reason]
        assert len(caplog.records) == 1
        assert f"{WEB}:{port}: {reason}" in caplog.text
        relay.call(lambda: relay.relay.replace(unreachable))
        with pytest.raises(ConnectionResetError):
            ask(pod, WEB, port)
        relay.until(lambda it: it.counters.open == 0, "closed")
        assert len(caplog.records) == 2


def test_names_are_resolved_upstream_and_kept(pod: Namespace) -> None:
    """An endpoint that is a name is asked for when needed, again after its TTL, and its last good address is kept."""
    zone: Zone = {("db.example", 4): Answer((ip_address(FIRST),), ttl_s=1)}
    with (
        relaying(pod, web("db.example"), zone=zone) as relay,
        endpoint(pod, FIRST, 80, telling(b"first")),
        endpoint(pod, SECOND, 80, telling(b"second")),
    ):
        assert [ask(pod, WEB, 80) for _ in range(3)] == [b"first"] * 3
        assert relay.asked == [("db.example", 6), ("db.example", 4)]
        zone["db.example", 4] = Answer((ip_address(SECOND),), ttl_s=1)
        time.sleep(1.1)
        assert ask(pod, WEB, 80) == b"second"
        zone["db.example", 4] = OSError("no upstream")
        time.sleep(1.1)
        assert ask(pod, WEB, 80) == b"second"
        (health,) = relay.call(lambda: relay.relay.health(ip_address(WEB)))
        assert (health.endpoint, health.addresses) == ("db.example:80", (SECOND,))


def test_the_other_family_is_tried_before_the_delay_between_endpoints(pod: Namespace) -> None:
    """A name whose IPv6 address is silent is reached by IPv4 after a quarter of a second."""
    zone: Zone = {
        ("db.example", 6): Answer((ip_address(SILENT6),)),
        ("db.example", 4): Answer((ip_address(FIRST),)),
    }
    slow = replace(SETTINGS, attempt_delay_s=5.0)
    with relaying(pod, web("db.example"), slow, zone=zone) as relay, endpoint(pod, FIRST, 80, telling(b"v4")):
        assert ask(pod, WEB, 80) == b"v4"
        relay.until(lambda it: it.counters.open == 0, "closed")
        assert 250 <= relay.lines[0]["connect_ms"] < 5000


@pytest.mark.parametrize("name", ["web.sock", "@web"], ids=["path", "abstract"])
def test_unix_endpoints(pod: Namespace, name: str) -> None:
    """`unix://` leads to a path, or with `@` to an abstract socket of the relay's namespace."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as folder:
        path = name if name.startswith("@") else f"{folder}/{name}"
        Path(folder).chmod(0o755)  # the relay runs as somebody else
        listener = pod.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path.replace("@", "\0"))
        if not path.startswith("@"):
            Path(path).chmod(0o777)
        listener.listen()
        with relaying(pod, web(f"unix://{path}")) as relay, serving(listener, echoing):
            with connect(pod, WEB, 80) as client:
                client.sendall(bytes(1 << 20))
                client.shutdown(socket.SHUT_WR)
                assert len(read_all(client)) == 1 << 20
            relay.until(lambda it: it.counters.open == 0, "closed")
            assert relay.lines[0]["endpoint"] == f"unix://{path}"


def test_new_routes_are_for_new_connections(pod: Namespace) -> None:
    """A connection that is there goes on, also when its host is gone; the next one goes by the new routes."""
    with (
        relaying(pod, web(FIRST)) as relay,
        endpoint(pod, FIRST, 80, echoing),
        endpoint(pod, SECOND, 80, telling(b"second")),
        connect(pod, WEB, 80) as client,
    ):
        client.sendall(b"a")
        assert client.recv(10) == b"a"
        relay.call(lambda: relay.relay.replace(web(SECOND)))
        assert ask(pod, WEB, 80) == b"second"
        relay.call(lambda: relay.relay.replace(routes({})))
        with pytest.raises(ConnectionResetError):
            ask(pod, WEB, 80)
        client.sendall(b"b")
        assert client.recv(10) == b"b"


def test_outside_the_pools_is_passed_through(pod: Namespace) -> None:
    """A destination that is no pool address is connected to as it is, counted, and nothing is resolved."""
    with relaying(pod, routes({})) as relay, endpoint(pod, "198.51.100.3", 80, telling(b"as it is")):
        assert ask(pod, "198.51.100.3", 80) == b"as it is"
        with pytest.raises(ConnectionResetError):
            ask(pod, "198.51.100.3", 81)
        relay.until(lambda it: it.counters.open == 0, "all closed")
        assert relay.relay.counters.passed_through == 2
        assert relay.relay.counters.failures == {("(pass-through)", "refused"): 1}
        assert relay.asked == []


def test_the_probe_address_names_the_version(pod: Namespace) -> None:
    """The pool's last address, port 1, says one line and closes, in both families."""
    with relaying(pod, routes({})) as relay:
        assert ask(pod, "240.240.255.255", 1) == b"meshdns 1.2.3\n"
        assert ask(pod, "2001:2::ffff", 1) == b"meshdns 1.2.3\n"
        assert relay.relay.counters.probes == 2


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_direct_connection_is_closed(pod: Namespace, address: str) -> None:
    """Who connects to the listener itself was not redirected: closed and counted, nothing is connected to."""
    with relaying(pod, web(FIRST)) as relay, endpoint(pod, FIRST, 80, hanging) as accepted:
        with contextlib.suppress(ConnectionResetError):
            assert ask(pod, address, 15001) == b""
        relay.until(lambda it: it.counters.not_redirected == 1, "counted")
        assert relay.relay.counters.open == 0
        assert accepted == []


def test_a_client_that_is_gone_before_it_is_served_does_no_harm(pod: Namespace) -> None:
    """Clients that give up while the relay still connects leave nothing behind."""
    with relaying(pod, web(SILENT), QUICK) as relay:
        clients = [connect(pod, WEB, 80) for _ in range(20)]
        for client in clients:
            client.close()
        relay.until(lambda it: it.counters.accepted == 20 and it.counters.open == 0, "all ended")


def test_many_clients_at_once(pod: Namespace) -> None:
    """Two hundred clients in parallel each get their own answer."""
    with relaying(pod, web(FIRST)), endpoint(pod, FIRST, 80, echoing):
        wrong: list[int] = []

        def client(number: int) -> None:
            with connect(pod, WEB, 80) as connection:
                text = str(number).encode() * 1000
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                if read_all(connection) != text:
                    wrong.append(number)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
