"""What a client sees when it connects to a pool address: real sockets, a real redirect, a namespace per test."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from namespaces import Namespace, namespace
from relaying import (
    connect,
    echoing,
    endpoint,
    read_all,
    relaying,
    routes,
)


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def test_a_leased_address_leads_to_its_endpoint(pod: Namespace) -> None:
    """Bytes go both ways, in IPv4 and IPv6, and a half-close of the client reaches the endpoint."""
    leases = routes({a: ("web.internal", [80], ["127.0.1.1"]) for a in ("240.240.0.1", "2001:2::1")})
    with relaying(pod, leases) as relay, endpoint(pod, "127.0.1.1", 80, echoing):
        assert relay.warnings == ()
        for address in ("240.240.0.1", "2001:2::1"):
            with connect(pod, address, 80) as client:
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"hello"
        relay.until(lambda it: it.counters.open == 0, "all closed")
        assert [line["end"] for line in relay.lines] == ["closed", "closed"]
        assert relay.lines[0]["endpoint"] == "127.0.1.1:80"
        assert relay.lines[1]["destination"] == "[2001:2::1]:80"
        assert (relay.relay.counters.sent_bytes, relay.relay.counters.received_bytes) == (10, 10)
