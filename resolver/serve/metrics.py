"""What is counted, in Prometheus's words; door: prometheus-client, imported when somebody first scrapes.

Every part keeps plain numbers of its own. They are read here, and nowhere else is one of the resolver's metrics named.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from meshdns.resolver.query.answer import read_tally
from meshdns.resolver.table.names import to_text

if TYPE_CHECKING:
    from meshdns.resolver.serve.datagram import DatagramCounters
    from meshdns.resolver.serve.run import Resolver
    from meshdns.resolver.serve.stream import StreamCounters

DURATION_BOUNDS_S: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 4.0)
"""The last one is the deadline of a forwarded query."""

TYPE_NAMES: Final = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR",
    43: "DS", 48: "DNSKEY", 52: "TLSA", 64: "SVCB", 65: "HTTPS", 255: "ANY", 257: "CAA",
}  # fmt: skip
"""Of `COUNTED_TYPES`, by IANA's registry; any other counts as `other`: strangers cannot make series without end."""

RCODE_NAMES: Final = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    16: "BADVERS",
}

Sample = tuple[tuple[str, ...], float]
"""Label values in the metric's order, and the number."""


class Metric(NamedTuple):
    """One metric and all its samples, for whoever exposes it."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...]
    samples: Iterable[Sample]


class Histogram(NamedTuple):
    """A histogram: for each label value the counts by bound, the last one above every bound, and the sum.

    With an empty `label` there is one series, of the value "".
    """

    name: str
    help: str
    label: str
    bounds: Sequence[float]
    series: Mapping[str, tuple[Sequence[int], float]]


def number(name: str, kind: Literal["counter", "gauge"], text: str, value: float) -> Metric:
    """Return a metric without labels."""
    return Metric(name, kind, text, (), [((), value)])


class Durations:
    """How long answers took, by source; of our own a sample."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._counts: dict[str, list[int]] = {}
        self._sums_s: dict[str, float] = {}

    def observe(self, source: str, took_s: float) -> None:
        """Count one answer."""
        self._add(source, took_s, 1)

    def sample(self, took_s: float, answers: int) -> None:
        """Count answers from the table that took so long together."""
        self._add("local", took_s, answers)

    def _add(self, source: str, took_s: float, answers: int) -> None:
        if source not in self._counts:
            self._counts[source], self._sums_s[source] = [0] * (len(DURATION_BOUNDS_S) + 1), 0.0
        self._counts[source][bisect_left(DURATION_BOUNDS_S, took_s)] += answers
        self._sums_s[source] += took_s * answers

    def histogram(self, at_once: int = 0) -> Histogram:
        """Return them all, and so many more answers from the cache as it gave at once, in no time worth a clock."""
        series = {source: (list(counts), self._sums_s[source]) for source, counts in self._counts.items()}
        if at_once:
            counts, _ = series.setdefault("cache", ([0] * (len(DURATION_BOUNDS_S) + 1), 0.0))
            counts[0] += at_once
        text = "Time to an answer, by source; of those from the table (local) a sample, over UDP."
        return Histogram("meshdns_query_duration_seconds", text, "source", DURATION_BOUNDS_S, series)


def metrics(resolver: Resolver) -> Iterator[Metric | Histogram]:
    """Yield everything that the resolver and its companions count."""
    version = [((resolver.settings.version,), 1.0)]
    yield Metric("meshdns_build_info", "gauge", "1, with the version that runs.", ("version",), version)
    yield from _queries(resolver)
    yield from _connections(resolver)
    yield from _forwarding(resolver)
    yield from _cache(resolver)
    yield from _table(resolver)
    yield from _heartbeat(resolver)
    for companion in resolver.companions:
        yield from companion.metrics()


def exposition(found: Iterable[Metric | Histogram]) -> bytes:
    """Return metrics in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - 4 MB that only scraping needs

    registry = CollectorRegistry()
    registry.register(_Collector(found))
    return generate_latest(registry)


class _Collector:
    def __init__(self, found: Iterable[Metric | Histogram]) -> None:
        self._found = found

    def describe(self) -> list[Any]:
        """Say nothing beforehand, so that registering reads no counter."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield every family in the library's own types."""
        from prometheus_client import core  # noqa: PLC0415 - as above

        kinds = {"counter": core.CounterMetricFamily, "gauge": core.GaugeMetricFamily}
        for one in self._found:
            if isinstance(one, Histogram):
                yield _histogram_family(one, core.HistogramMetricFamily)
                continue
            family = kinds[one.kind](one.name, one.help, labels=one.labels)
            for labels, value in one.samples:
                family.add_metric(labels, value)
            yield family


def _histogram_family(one: Histogram, made: Callable[..., Any]) -> Any:  # noqa: ANN401 - the library's type
    family = made(one.name, one.help, labels=[one.label] if one.label else [])
    for label, (counts, total) in one.series.items():
        buckets = []
        below = 0
        for bound, count in zip((*map(str, one.bounds), "+Inf"), counts, strict=True):
            below += count
            buckets.append((bound, below))
        family.add_metric([label] if one.label else [], buckets, total)
    return family


def _queries(resolver: Resolver) -> Iterator[Metric | Histogram]:
    samples: dict[tuple[str, ...], float] = {}
    for transport, answering in (("udp", resolver.datagrams), ("tcp", resolver.streams)):
        for listener in answering:
            for (kind, rcode), count in read_tally(listener.counters.tally).items():
                _add(samples, (transport, _type(kind), "local", _rcode(rcode)), count)
    for (source, stream, kind, rcode), count in resolver.forwarder.counters.replies.items():
        _add(samples, ("tcp" if stream else "udp", _type(kind), source, _rcode(rcode)), count)
    at_once = resolver.forwarder.cache_counters.at_once
    for (kind, rcode), count in read_tally(at_once).items():
        _add(samples, ("udp", _type(kind), "cache", _rcode(rcode)), count)
    labels = ("transport", "type", "source", "rcode")
    yield Metric("meshdns_queries", "counter", "Queries answered.", labels, samples.items())
    yield resolver.durations.histogram(sum(at_once.values()))
    taken: list[DatagramCounters | StreamCounters] = [each.counters for each in resolver.datagrams]
    taken += [each.counters for each in resolver.streams]
    dropped = {
        "short": sum(counters.short for counters in taken),
        "response": sum(counters.responses for counters in taken),
        "unsent": sum(listener.counters.unsent for listener in resolver.datagrams),
        "kernel": sum(listener.kernel_drops() for listener in resolver.datagrams),
        "overload": resolver.forwarder.counters.overloaded,
    }
    yield Metric("meshdns_dropped", "counter", "Packets without a proper answer, and why.", ("reason",), _by(dropped))
    yield number("meshdns_in_flight", "gauge", "Queries that wait for an upstream.", resolver.forwarder.in_flight)
    joined = resolver.forwarder.counters.joined
    log = resolver.settings.query_log
    unwritten = log.dropped if log else 0
    yield number("meshdns_query_log_dropped", "counter", "Lines of --query-log that were lost.", unwritten)
    yield number("meshdns_joined", "counter", "Queries that waited for an equal one on its way.", joined)


def _connections(resolver: Resolver) -> Iterator[Metric]:
    counters = [listener.counters for listener in resolver.streams]
    there = {connection for listener in resolver.streams for connection in listener.connections}
    yield number("meshdns_tcp_open", "gauge", "Connections for DNS.", len(there))
    accepted = sum(each.accepted for each in counters)
    yield number("meshdns_tcp_accepted", "counter", "Connections for DNS that were accepted.", accepted)
    closed = {
        "refused": sum(each.refused for each in counters),
        "displaced": sum(each.displaced for each in counters),
        "idle": sum(each.timed_out for each in counters),
    }
    text = "Closed by us: no place left (refused), idle in the way of a new one (displaced), idle for too long."
    yield Metric("meshdns_tcp_closed", "counter", text, ("reason",), _by(closed))


def _forwarding(resolver: Resolver) -> Iterator[Metric]:
    servers = resolver.forwarder.servers()
    labels = [(server.name, to_text(server.zone) if server.zone else ".") for server in servers]
    for name, kind, text, values in (
        ("attempts", "counter", "Queries sent.", [server.attempts for server in servers]),
        ("failures", "counter", "Queries without a good answer.", [server.failures for server in servers]),
        ("rtt_seconds", "gauge", "Smoothed round-trip time.", [server.round_trip_s or 0.0 for server in servers]),
        ("healthy", "gauge", "1 while it answers.", [server.healthy and not server.looping for server in servers]),
    ):
        samples = [(label, float(value)) for label, value in zip(labels, values, strict=True)]
        yield Metric(f"meshdns_upstream_{name}", kind, text, ("server", "zone"), samples)  # type: ignore[arg-type]
    counters = resolver.forwarder.counters
    for name, text, count in (
        ("loops", "How often a server was found to lead back to us.", counters.loops),
        ("garbage", "Replies that could not be read, or were to another question.", counters.garbage),
        ("strangers", "Messages that nobody waited for: late, twice, or forged.", resolver.forwarder.strangers),
        ("truncated", "Replies that were cut short and asked for again over TCP.", counters.truncated),
    ):
        yield number(f"meshdns_upstream_{name}", "counter", text, count)


def _cache(resolver: Resolver) -> Iterator[Metric]:
    cache = resolver.forwarder.cache_counters
    yield number("meshdns_cache_entries", "gauge", "Answers in the cache.", len(resolver.forwarder.cache))
    yield number("meshdns_cache_bytes", "gauge", "What they take.", resolver.forwarder.cache.size_bytes)
    yield number("meshdns_cache_hits", "counter", "Answers from the cache.", cache.hits)
    yield number(
        "meshdns_cache_stale_hits", "counter", "Answers that were past their time (RFC 8767).", cache.stale_hits
    )
    yield number("meshdns_cache_misses", "counter", "Questions that the cache could not answer.", cache.misses)
    yield number("meshdns_cache_evictions", "counter", "Answers that had to go for others.", cache.evictions)
    yield number("meshdns_cache_refreshes", "counter", "Popular answers asked for before their end.", cache.refreshes)


def _table(resolver: Resolver) -> Iterator[Metric]:
    loading = resolver.reloader.counters
    yield number("meshdns_table_generation", "gauge", "Of the table in use.", resolver.table.common.generation)
    yield number("meshdns_table_names", "gauge", "Hosts in the table.", len(resolver.table.rows))
    yield number("meshdns_table_loads", "counter", "Loads that gave a table.", loading.loads)
    yield number("meshdns_table_load_failures", "counter", "Loads that gave none.", loading.failures)
    resumed = "1 when the first table was the one that the last run kept."
    yield number("meshdns_table_resumed", "gauge", resumed, loading.resumed)
    yield number("meshdns_table_load_seconds", "gauge", "What the last load took.", loading.last_s)
    if loading.summary is None:
        return
    yield number(
        "meshdns_table_age_seconds", "gauge", "Since the last load.", max(0.0, time.monotonic() - loading.loaded_at)
    )
    problems: dict[str, float] = {"error": 0, "warning": 0}
    for problem in loading.summary.problems:
        problems[problem.level] += 1
    yield Metric("meshdns_manifest_problems", "gauge", "What is wrong with manifests.", ("level",), _by(problems))
    leases = {"used": loading.summary.used, "free": loading.summary.free, "resting": loading.summary.resting}
    yield Metric("meshdns_leases", "gauge", "Address pairs of the pools, by state.", ("state",), _by(leases))


def _heartbeat(resolver: Resolver) -> Iterator[Metric]:
    if resolver.heartbeat is None:
        return
    beat = resolver.heartbeat.counters
    yield number("meshdns_heartbeats_sent", "counter", "Heartbeats sent.", beat.sent)
    yield number(
        "meshdns_heartbeats_withheld", "counter", "Heartbeats not sent, as we could not answer.", beat.withheld
    )
    yield number("meshdns_heartbeats_failed", "counter", "Heartbeats that the kernel did not take.", beat.failed)
    yield number("meshdns_heartbeat_gap_seconds", "gauge", "Between the last two.", beat.last_gap_s)
    yield number("meshdns_heartbeat_longest_gap_seconds", "gauge", "The longest so far.", beat.longest_gap_s)


def _add(samples: dict[tuple[str, ...], float], labels: tuple[str, ...], count: float) -> None:
    samples[labels] = samples.get(labels, 0) + count


def _by(values: dict[str, Any]) -> list[Sample]:
    return [((label,), float(value)) for label, value in values.items()]


def _type(kind: int) -> str:
    return TYPE_NAMES.get(kind, "other")


def _rcode(rcode: int) -> str:
    return RCODE_NAMES.get(rcode, "other")
