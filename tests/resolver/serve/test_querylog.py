"""The query log has one line for each reply, whatever the transport, and says where the answer came from."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import pytest
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


DISK = ("unshare", "--mount", "sh", "-euc", 'mount -t tmpfs -o size=8k tmpfs "$0"; printf %4096s >"$0/full"; exec "$@"')
"""A disk at the path that follows, for the program behind it: of two pages one is taken."""


@pytest.mark.root
def test_a_full_disk_is_told_at_once_and_what_was_lost_when_there_is_room(tmp_path: Path) -> None:
    """One warning, with file and cause, when lines begin to be lost; then how many; the others are there, and whole."""
    (tmp_path / "a.yaml").write_text(ADDRESS_AND_AUTO)
    disk = tmp_path / "disk"
    disk.mkdir()
    log = disk / "queries"
    asked = 0
    with running(tmp_path, tmp_path / "home", "--query-log", str(log), under=(*DISK, str(disk))) as one:

        def ask_until(words: str) -> None:
            nonlocal asked
            give_up = time.monotonic() + 20
            while words not in (text := one.log.read_text()):
                assert time.monotonic() < give_up, text
                one.ask("auto.internal")
                asked += 1
                time.sleep(0.005)

        ask_until(f"cannot write to {log}: no space left on device: lines are lost until it takes them\n")
        for _ in range(20):
            one.ask("auto.internal")
            asked += 1
        in_its_namespace = Path(f"/proc/{one.process.pid}/root")
        (in_its_namespace / str(disk / "full")[1:]).unlink()
        ask_until("takes lines again")
        told = one.log.read_text()
        found = re.search(rf"{log} takes lines again; of those before were lost: (\d+)\n", told)
        assert found
        lost = int(found[1])
        assert len(lines(one, in_its_namespace / str(log)[1:], asked - lost)) == asked - lost
    assert 19 <= lost < asked
    assert told.count("cannot write to") == 1
