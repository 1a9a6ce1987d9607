"""The fakes do what they say, seen by dnspython over real sockets."""

from __future__ import annotations

import socket

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import fakes
import pytest
from fakes import FakeUpstream


def _ask(
    upstream: FakeUpstream, name: str, qtype: str = "A", timeout_s: float = 5.0, *, tcp: bool = False
) -> dns.message.Message:
    query = dns.message.make_query(name, qtype)
    ask = dns.query.tcp if tcp else dns.query.udp
    return ask(query, upstream.address, timeout=timeout_s, port=upstream.port)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_answering_answers_every_name_of_the_family_it_has(address: str, *, tcp: bool) -> None:
    """A name has the addresses given, a missing family is NODATA with an SOA, and what was asked is recorded."""
    with FakeUpstream(fakes.answering("198.51.100.7"), address) as upstream:
        reply = _ask(upstream, "WWW.example", tcp=tcp)
        assert [str(rdata) for rdata in reply.answer[0]] == ["198.51.100.7"]
        nodata = _ask(upstream, "www.example", "AAAA", tcp=tcp)
        assert (nodata.rcode(), nodata.answer, len(nodata.authority)) == (dns.rcode.NOERROR, [], 1)
        assert upstream.names == ["WWW.example.", "www.example."]


def test_serving_follows_cnames_and_denies_what_it_does_not_hold() -> None:
    """A CNAME chain is answered whole and an unknown name is NXDOMAIN."""
    with FakeUpstream(fakes.serving({"a.example.": ["CNAME b.example."], "b.example.": ["A 192.0.2.1"]})) as upstream:
        assert [rrset.name.to_text() for rrset in _ask(upstream, "a.example").answer] == ["a.example.", "b.example."]
        assert _ask(upstream, "c.example").rcode() == dns.rcode.NXDOMAIN


def test_liars_are_told_by_a_client_that_looks() -> None:
    """Silence, a wrong id, a wrong question and garbage are no reply; TC leads to TCP; a slow reply comes late."""
    good = fakes.answering("192.0.2.1")
    with FakeUpstream(fakes.silent) as upstream:
        for behaviour in (fakes.silent, fakes.wrong_id(good), fakes.slow(1, good)):
            upstream.behaviour = behaviour
            with pytest.raises((dns.exception.Timeout, dns.query.BadResponse)):
                _ask(upstream, "www.example", timeout_s=0.3)
        for behaviour in (fakes.wrong_question(good), fakes.saying(b"rubbish")):
            upstream.behaviour = behaviour
            with pytest.raises(dns.exception.DNSException):
                _ask(upstream, "www.example", timeout_s=0.3)
        upstream.behaviour = fakes.truncating(good)
        assert _ask(upstream, "www.example").flags & dns.flags.TC
        assert not _ask(upstream, "www.example", tcp=True).flags & dns.flags.TC
        upstream.behaviour = fakes.failing("REFUSED")
        assert _ask(upstream, "www.example").rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_closed_port_refuses(kind: socket.SocketKind) -> None:
    """Nobody listens on a closed port, over either transport."""

    def ask(client: socket.socket, port: int) -> None:
        client.connect(("127.0.0.1", port))
        client.send(b"?")
        client.recv(1)

    with fakes.closed_port() as port, socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            ask(client, port)
