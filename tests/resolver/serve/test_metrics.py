"""What is exposed is what was counted, in a form that Prometheus reads."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import dns.message
from fakes import FakeUpstream, answering, by_name, slow, truncating, twice, wrong_question
from prometheus_client.parser import text_string_to_metric_families
from resolving import ADDRESS_AND_AUTO, Running, running

from meshdns.init.logs import LINES_HELD
from meshdns.init.version import VERSION
from meshdns.resolver.query.decision import COUNTED_TYPES
from meshdns.resolver.serve.metrics import TYPE_NAMES, Durations, Histogram, Metric, exposition, number
from meshdns.resolver.serve.stream import CONNECTIONS_MAX

NAME = re.compile(r"meshdns_[a-z][a-z_]*")


def test_the_text_says_what_was_given() -> None:
    """Counters, gauges, labels and histograms come back from Prometheus's own parser as they were given."""
    given: list[Metric | Histogram] = [
        number("meshdns_one", "gauge", "One.", 1.5),
        Metric("meshdns_two", "counter", "Two.", ("kind",), [(('a"\n\\',), 2)]),
        Histogram("meshdns_three_seconds", "Three.", "source", (0.1, 1.0), {"cache": ([1, 2, 3], 7.5)}),
        Histogram("meshdns_four_seconds", "Four.", "", (0.1,), {"": ([1, 0], 0.05)}),
    ]
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition(given).decode())
        for sample in family.samples
    }
    assert samples["meshdns_one", ()] == 1.5
    assert samples["meshdns_two_total", (("kind", 'a"\n\\'),)] == 2
    assert samples["meshdns_three_seconds_bucket", (("le", "1.0"), ("source", "cache"))] == 3
    assert samples["meshdns_three_seconds_count", (("source", "cache"),)] == 6
    assert samples["meshdns_three_seconds_sum", (("source", "cache"),)] == 7.5
    assert samples["meshdns_four_seconds_bucket", (("le", "+Inf"),)] == 1


def test_answers_at_once_are_in_the_histogram() -> None:
    """What the cache answered without a look at the clock counts among its answers, under the smallest bound."""
    durations = Durations()
    assert durations.histogram(0).series == {}
    counts, total_s = durations.histogram(3).series["cache"]
    assert (counts[0], sum(counts), total_s) == (3, 3, 0.0)
    assert durations.histogram(0).series == {}


def test_every_type_that_is_counted_apart_has_a_name() -> None:
    """No type is counted and then shown as `other`, and none has a name that no count ever gets."""
    assert set(TYPE_NAMES) == COUNTED_TYPES


def test_a_running_resolver_counts_its_answers(tmp_path: Path) -> None:
    """Each answer is counted once, under transport, type, source and RCODE; every name and label is well-formed."""
    entries = tmp_path / "entries"
    entries.mkdir()
    (entries / "a.yaml").write_text(ADDRESS_AND_AUTO)
    with running(entries, tmp_path / "home") as one:
        for _ in range(3):
            one.ask("auto.internal")
        one.ask("auto.internal", "MX", tcp=True)
        families = list(text_string_to_metric_families(one.get("/metrics")[1]))
        timed = {
            sample.labels["source"]: sample.value
            for family in families
            for sample in family.samples
            if sample.name == "meshdns_query_duration_seconds_count"
        }
    assert 1 <= timed["local"] <= 3
    samples = [sample for family in families for sample in family.samples]
    assert all(NAME.fullmatch(sample.name) and all(sample.labels) for sample in samples)
    counted = {
        tuple(sample.labels[key] for key in ("transport", "type", "source", "rcode")): sample.value
        for sample in samples
        if sample.name == "meshdns_queries_total"
    }
    assert counted == {("udp", "A", "local", "NOERROR"): 3, ("tcp", "MX", "local", "NOERROR"): 1}


TROUBLE = by_name(
    {
        "cut.example.": truncating(answering("192.0.2.1")),
        "twice.example.": twice(answering("192.0.2.2")),
        "other.example.": wrong_question(answering("192.0.2.3")),
        "slow.example.": slow(1.0, answering("192.0.2.4")),
    }
)


def counted(one: Running) -> dict[str, float]:
    """Return every sample by its name and, where it has one label, that label's value."""
    return {
        f"{sample.name} {' '.join(sample.labels.values())}".rstrip(): sample.value
        for family in text_string_to_metric_families(one.get("/metrics")[1])
        for sample in family.samples
        if len(sample.labels) < 2
    }


def until(one: Running, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Return the samples once they are so."""
    give_up = time.monotonic() + 20
    while not holds(found := counted(one)):
        assert time.monotonic() < give_up, found
    return found


def test_what_goes_wrong_is_counted(tmp_path: Path) -> None:
    """Upstreams that cut, repeat themselves or answer something else, and clients that ask nothing: each is counted."""
    entries = tmp_path / "entries"
    entries.mkdir()
    with FakeUpstream(TROUBLE) as upstream, running(entries, tmp_path, "--upstream", upstream.endpoint) as one:
        begun = counted(one)
        one.ask("cut.example")
        one.ask("twice.example")
        query = dns.message.make_query("other.example", "A").to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, socket.socket() as stream:
            client.sendto(query, ("127.0.0.1", one.port))
            for number in range(3):
                same = struct.pack("!H", number) + dns.message.make_query("slow.example", "A").to_wire()[2:]
                client.sendto(same, ("127.0.0.1", one.port))
            response = query[:2] + b"\x80" + query[3:]
            stream.connect(("127.0.0.1", one.port))
            for packet in (b"abc", response):
                client.sendto(packet, ("127.0.0.1", one.port))
                stream.sendall(len(packet).to_bytes(2, "big") + packet)
            found = until(
                one, lambda now: now["meshdns_joined_total"] == 2 and now["meshdns_upstream_garbage_total"] >= 1
            )
            found = until(one, lambda now: now["meshdns_upstream_strangers_total"] >= 1)
            found = until(one, lambda now: now["meshdns_dropped_total response"] == 2)
        until(one, lambda now: now["meshdns_tcp_open"] == 0)
    assert begun["meshdns_tcp_open"] == begun["meshdns_tcp_accepted_total"] == begun["meshdns_joined_total"] == 0
    assert (found["meshdns_tcp_open"], found["meshdns_tcp_accepted_total"]) == (1, 1)
    assert found["meshdns_upstream_truncated_total"] == 1
    assert found["meshdns_dropped_total short"] == 2
    assert found["meshdns_cache_bytes"] > begun["meshdns_cache_bytes"] == 0


def test_lines_that_nobody_takes_are_counted(tmp_path: Path) -> None:
    """Behind a query log whose reader stalls every lookup is answered, and the lines that found no room are counted."""
    entries, fifo = tmp_path / "entries", tmp_path / "fifo"
    entries.mkdir()
    (entries / "a.yaml").write_text(ADDRESS_AND_AUTO)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    query = dns.message.make_query("auto.internal", "A").to_wire()
    with running(entries, tmp_path, "--query-log", str(fifo)) as one, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        for _ in range(LINES_HELD + 500):
            client.sendto(query, ("127.0.0.1", one.port))
            client.recv(512)
        until(one, lambda now: now["meshdns_query_log_dropped_total"] > 0)
    os.close(reader)


def test_connections_without_a_place_are_counted(tmp_path: Path) -> None:
    """With every place taken, the next clients are refused or take that of an idle one; the version is told beside."""
    entries = tmp_path / "entries"
    entries.mkdir()
    with running(entries, tmp_path) as one:
        clients = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(CONNECTIONS_MAX + 5)]
        try:
            found = until(
                one,
                lambda now: now["meshdns_tcp_closed_total refused"] + now["meshdns_tcp_closed_total displaced"] == 5,
            )
            assert found["meshdns_tcp_open"] == CONNECTIONS_MAX
            assert found[f"meshdns_build_info {VERSION}"] == 1
        finally:
            for client in clients:
                client.close()
