"""The query log has one line for each reply, whatever the transport, and says where the answer came from."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

from fakes import FakeUpstream, answering
from resolving import ADDRESS_AND_AUTO, Running, running


def lines(one: Running, log: Path, count: int) -> list[dict[str, object]]:
    """Wait for so many lines and return them."""
    give_up = time.monotonic() + 5
    while len(text := log.read_text().splitlines()) < count:
        assert time.monotonic() < give_up, (text, one.log.read_text())
        time.sleep(0.02)
    return [json.loads(line) for line in text]


ALIAS = """\
---
apiVersion: v1
kind: Service
metadata: {name: out}
spec: {type: ExternalName, externalName: www.example}
"""


def test_every_reply_has_its_line(tmp_path: Path) -> None:
    """A name of ours, one that is asked for, and the same again from the cache, over UDP and TCP: source and times."""
    entries = tmp_path / "entries"
    entries.mkdir()
    (entries / "a.yaml").write_text(ADDRESS_AND_AUTO + ALIAS)
    log = tmp_path / "queries"
    with FakeUpstream(answering("192.0.2.7")) as upstream:
        options = ("--query-log", str(log), "--upstream", f"127.0.0.1:{upstream.port}")
        with running(entries, tmp_path / "home", *options) as one:
            one.ask("Auto.internal")
            one.ask("www.example", tcp=True)
            one.ask("www.example")
            one.ask("out.default.svc.cluster.local")
            one.ask("out.default.svc.cluster.local", "AAAA", tcp=True)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(bytes(range(2)) + b"\1\0\0\2" + bytes(10), ("127.0.0.1", one.port))
                client.recv(100)
            found = lines(one, log, 6)
    keys = ("transport", "name", "type", "rcode", "answers", "source")
    assert [tuple(line[key] for key in keys) for line in found] == [
        ("udp", "Auto.internal", "A", "NOERROR", 1, "local"),
        ("tcp", "www.example", "A", "NOERROR", 1, "upstream"),
        ("udp", "www.example", "A", "NOERROR", 1, "cache"),
        ("udp", "out.default.svc.cluster.local", "A", "NOERROR", 2, "cache"),  # asked under its target's name
        ("tcp", "out.default.svc.cluster.local", "AAAA", "NOERROR", 1, "upstream"),
        ("udp", None, None, "FORMERR", 0, "local"),
    ]
    assert found[1]["server"] == f"127.0.0.1:{upstream.port}"
    assert all(0 < float(str(line["decided_us"])) <= float(str(line["total_us"])) for line in found)
