"""What `meshdns resolver` says of a running resolver, in every form it is asked for."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.zone
import pytest
from fakes import FakeUpstream, answering
from namespaces import namespace
from ports import free_port
from resolving import ADDRESS_AND_AUTO, MESHDNS, Running, running

from meshdns.init.cli import run

SERVICES = """\
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIPs: [10.96.0.80], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: www.example}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: nowhere}
spec: {hosts: [nowhere.internal], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: half}
spec: {hosts: [half.internal], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
status: {addresses: [{host: half.internal, value: 240.240.9.9}]}
"""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a resolver over every kind of row that a table can have."""
    home = tmp_path_factory.mktemp("home")
    (home / "entries").mkdir()
    (home / "entries" / "a.yaml").write_text(ADDRESS_AND_AUTO + SERVICES)
    with running(home / "entries", home, "--lease-families", "both") as made:
        yield made


def said(one: Running, *arguments: str, code: int = 0) -> str:
    """Run a command against the resolver and return what it printed."""
    command = [*MESHDNS, "resolver", *arguments, "--admin", f"127.0.0.1:{one.admin}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_query_shows_the_reply(one: Running) -> None:
    """The answer is the one that any client gets; another RCODE than NOERROR is exit code 1."""
    assert "auto.internal.          30      IN      A       240.240.0.1" in said(one, "query", "auto.internal")
    assert "2001:2::1" in said(one, "query", "AUTO.internal.", "aaaa")
    assert "status: SERVFAIL" in said(one, "query", "www.example", code=1)
    assert said(one, "query", "auto.internal", "no-type", code=2) == ""


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("auto.internal",), ["auto.internal: ours", "a.yaml:9, resolution STATIC", "lease: 240.240.0.1, 2001:2::1"]),
        (("web",), ["web: ours", "host: web.default.svc.cluster.local", "addresses: 10.96.0.80"]),
        (("nowhere.internal",), ["nowhere.internal: not ours: "]),
        (("auto.interna",), ["not ours: no entry has this host", "nearest: auto.internal", "asked now: SERVFAIL"]),
        (("240.240.0.1:80",), ["240.240.0.1: ours", "host: auto.internal"]),
        (("2001:2::1",), ["2001:2::1: ours", "host: auto.internal"]),
        (("192.0.2.1",), ["192.0.2.1: not ours: no host has this address"]),
        (("4.0.240.240.in-addr.arpa", "PTR"), ["ours: it lies in the reverse zone of a pool"]),
        (("a..b",), ["not ours: it is not a well-formed name"]),
        (("auto.internal",), ["asked now: NOERROR, 240.240.0.1, in"]),
        (("address.internal", "AAAA"), ["asked now: NOERROR, no record, in", ": it has no IPv6 address"]),
        (("auto.internal", "SRV"), [": names of ours have addresses and ports only: --other-types forward"]),
        (
            ("www.example",),
            ["asked now: SERVFAIL", ": 127.0.0.99:53: connection refused", "tries failed"],
        ),
    ],
)
def test_explain_says_why(one: Running, arguments: tuple[str, ...], shown: list[str]) -> None:
    """The first line is the verdict, the lines below say what it rests on."""
    text = said(one, "explain", *arguments)
    for part in shown:
        assert part in text


AUTO = "this machine has no IPv6 address but loopback and link-local ones (--lease-families auto)"


@pytest.mark.parametrize(("families", "reason"), [("auto", AUTO), ("ipv4", "--lease-families is ipv4")])
def test_explain_says_why_a_lease_is_not_answered(families: str, reason: str, tmp_path: Path) -> None:
    """On a machine with nothing but loopback an AAAA that is not answered is named, with what decides it."""
    (tmp_path / "a.yaml").write_text(ADDRESS_AND_AUTO)
    serve = (*MESHDNS, "resolver", "run", "--manifests", str(tmp_path), "--upstream", "127.0.0.99")
    asked = (*MESHDNS, "resolver", "explain", "auto.internal", "AAAA")
    with namespace() as pod, pod.running(*serve, "--no-relay", "--no-heartbeat", "--lease-families", families):
        give_up = time.monotonic() + 20
        while "lease" not in (text := pod.run(*asked, check=False).stdout):
            assert time.monotonic() < give_up, text
    assert "asked now: NOERROR, no record, in " in text
    assert f": its lease 2001:2::1 is not answered: {reason}\n" in text


@pytest.mark.parametrize(
    ("what", "refusal"),
    [
        ("240.240.0.1:99999", "'99999' is not a port"),
        ("240.240.0.1:http", "'http' is not a port"),
        ("[2001:2::1]:0", "'0' is not a port"),
        ("auto.internal:80", "'auto.internal:80' is not an address with a port"),
    ],
)
def test_explain_takes_no_bad_address_for_a_name(what: str, refusal: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name has no colon, so what has one and is no address with a port is a usage error; nobody is asked."""
    assert run(["resolver", "explain", what]) == 2
    assert refusal in capsys.readouterr().err


def test_explain_tells_of_the_cache_and_the_server(tmp_path: Path) -> None:
    """The second time the answer is in the cache: from whom, how old, for how long; only who is asked is listed."""
    (tmp_path / "entries").mkdir()
    with FakeUpstream(answering("192.0.2.80")) as upstream:
        port = upstream.port
        zone = ("--zone", f"corp.example=127.0.0.1:{port}", "--zone", f"other.example=127.0.0.1:{free_port()}")
        with running(tmp_path / "entries", tmp_path, *zone) as other:
            first = said(other, "explain", "www.corp.example")
            second = said(other, "explain", "www.corp.example")
    assert "cache: nothing\n" in first
    assert f"asked now: NOERROR from 127.0.0.1:{port}, 192.0.2.80, in" in first
    assert re.search(rf"cache: answer of 127\.0\.0\.1:{port}, \d s old, good for \d+ s more\n", second)
    assert re.findall(r"upstream (\S+) for (\S+): healthy", first) == [(f"127.0.0.1:{port}", "corp.example")]


def test_explain_knows_its_types(one: Running) -> None:
    """A type that is none is a usage error, not an answer without that part."""
    said(one, "explain", "auto.internal", "BOGUS", code=2)


def test_explain_is_json_for_programs(one: Running) -> None:
    """With --json the same is one JSON object."""
    assert json.loads(said(one, "explain", "auto.internal", "--json"))["lease"] == ["240.240.0.1", "2001:2::1"]


def test_dump_has_every_host_in_every_form(one: Running) -> None:
    """Table and JSON have the forwarded hosts too; the zone is one that dnspython reads; hosts is a hosts file."""
    assert "nowhere.internal" in said(one, "dump")
    hosts = {row["host"] for row in json.loads(said(one, "dump", "-o", "json"))}
    assert {"address.internal", "auto.internal", "web.default.svc.cluster.local", "nowhere.internal"} <= hosts
    zone = dns.zone.from_text(said(one, "dump", "-o", "zone"), origin=".", check_origin=False)
    assert str(zone.find_rdataset("web.default.svc.cluster.local", "A")[0]) == "10.96.0.80"
    for name in ("out.default.svc.cluster.local", "out"):
        assert str(zone.find_rdataset(name, "CNAME")[0]) == "www.example"
    lines = [line.split() for line in said(one, "dump", "-o", "hosts").splitlines()]
    assert ["240.240.0.1", "auto.internal"] in lines
    assert next(line for line in lines if line[0] == "10.96.0.80")[1] == "web.default.svc.cluster.local"


def test_vips_lists_leases_and_names_holders(one: Running) -> None:
    """Every lease with its host; an address that is not leased is said to be so, and that is an answer."""
    listed = [line.split() for line in said(one, "vips").splitlines()]
    assert ["240.240.0.1", "2001:2::1", "auto.internal", "default"] in listed
    assert ["240.240.9.9", "half.internal", "default"] in listed  # a control plane may lease one family alone
    assert said(one, "vips", "2001:2::1") == "auto.internal\n"
    assert said(one, "vips", "240.240.0.9") == "240.240.0.9 is not leased\n"
    said(one, "vips", "auto.internal", code=2)


@pytest.mark.parametrize("reply", [b"SSH-2.0-server\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n<html>"])
def test_somebody_else_at_the_port_is_exit_3(reply: bytes) -> None:
    """Where another program answers, of HTTP or not, that is one line as well."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            client, _ = other.accept()
            with client:
                client.recv(1000)
                client.sendall(reply)

        answering = threading.Thread(target=answer)
        answering.start()
        command = [*MESHDNS, "resolver", "dump", "--admin", f"127.0.0.1:{other.getsockname()[1]}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        answering.join()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr


def test_nobody_to_ask_is_exit_3() -> None:
    """Where no resolver runs, every asking command says so in one line."""
    for arguments in (("query", "a"), ("explain", "a"), ("dump",), ("vips",)):
        admin = f"127.0.0.1:{free_port()}"
        command = [*MESHDNS, "resolver", *arguments, "--admin", admin]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == (
            f"meshdns: cannot ask the resolver at {admin}: connection refused: is `meshdns resolver run` running here?"
            " give --admin where its admin port is another\n"
        )
