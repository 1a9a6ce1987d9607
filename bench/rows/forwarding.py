"""Names of others: forwarded without a cache's help, and answered from the cache; upstream is NSD on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from statistics import median

from bench import admin, load, names, peers
from bench.figures import ratio
from bench.finding import Finding, at_least, at_most, not_measured, printed
from bench.load import Sample
from bench.mmsg import Outgoing
from bench.peers import CoreDns, Dnsmasq, Job, Meshdns, Nsd, Peer, Serving, Unbound
from bench.process import NotMeasuredError
from bench.rounds import Bench

_LIMITS = {"p50": 1.8, "processor time per query": 2.0}
_FIGURES: dict[str, Callable[[Sample], float]] = {
    "p50": lambda sample: sample.latency_us(50),
    "processor time per query": lambda sample: sample.cpu_us,
}
CACHED = 0.6
RECORDS = 3
CACHED_NAMES = 5_000
"""As many as the cache holds within its 8 MiB, with room to spare; of our own there are as many."""

PER_ROUND = 20_000
"""More different names than anybody forwards in a round, one at a time."""


def forwarded(bench: Bench) -> Iterator[Finding]:
    """Ask for names that nobody asked for before, one at a time."""
    with _upstream(bench, Nsd()) as upstream:
        job = Job(upstream=upstream.port)
        contenders: list[Peer] = [Meshdns(), Dnsmasq(), Unbound(), CoreDns()]
        with bench.serving(contenders, job) as running:
            generators = {name: partial(_fresh, bench, server, count()) for name, server in running.items()}
            samples = bench.take_turns(generators)
    ours = samples["meshdns"]
    for name in ("dnsmasq", "Unbound", "CoreDNS"):
        if name not in samples:
            yield not_measured(f"p50 and processor time against {name}", f"{name} is not installed")
            continue
        for what, figure in _FIGURES.items():
            mine, theirs = ([figure(sample) for sample in side] for side in (ours, samples[name]))
            detail = f"{median(mine):.0f} µs against {median(theirs):.0f}"
            title, compared = f"{what} against {name}", ratio(mine, theirs)
            limited = name == "dnsmasq"
            yield at_most(title, compared, _LIMITS[what], detail) if limited else printed(title, compared, detail)


def cached(bench: Bench) -> Iterator[Finding]:
    """Ask for names of others that have been asked for, against names of our own."""
    hosts, own = names.hosts(CACHED_NAMES), names.hosts(CACHED_NAMES, "own.internal")
    with _upstream(bench, Nsd(addresses_each=RECORDS), hosts) as upstream:
        peer, job = Meshdns(), Job(own, upstream=upstream.port)
        with bench.serving([peer], job) as running:
            server = running["meshdns"]
            _fill(server, hosts)
            misses = admin.metric(peer.admin, "meshdns_cache_misses")
            generators = {}
            for what, drawn in (("cached", hosts), ("own", own)):
                generate = partial(load.window, server.port, Outgoing(bench.queries(drawn)), 64, bench.seconds)
                generators[what] = partial(load.measured, server.process, generate)
            samples = bench.take_turns(generators)
            misses = admin.metric(peer.admin, "meshdns_cache_misses") - misses
    compared = ratio(*([sample.rate for sample in samples[what]] for what in ("cached", "own")))
    cached_us, own_us = (median(sample.cpu_us for sample in samples[what]) for what in ("cached", "own"))
    detail = f"processor time per answer {cached_us:.1f} µs against {own_us:.1f}; {misses:.0f} were not cached"
    yield at_least(f"cached answers of {RECORDS} records against our own, window 64", compared, CACHED, detail)


def _upstream(bench: Bench, peer: Nsd, hosts: Sequence[str] = ()) -> contextlib.AbstractContextManager[Serving]:
    if peers.program_of(peer) is None:
        raise NotMeasuredError("nsd, which is asked upstream, is not installed")
    return peers.serving(peer, Job(hosts), bench.home / "upstream")


def _fresh(bench: Bench, server: Serving, rounds: Iterator[int]) -> Sample:
    """Ask for names that differ from all that were asked in other rounds."""
    zone = f"round-{next(rounds)}.{names.ZONE}"
    queries = [names.query(name, edns=False) for name in names.hosts(PER_ROUND, zone)]
    return load.measured(server.process, partial(load.one_at_a_time, server.port, queries, bench.seconds))


def _fill(server: Serving, hosts: Sequence[str]) -> None:
    queries = [names.query(name, edns=False) for name in hosts]
    filled = load.one_at_a_time(server.port, queries, 60.0)
    if filled.answered != len(hosts):
        raise NotMeasuredError(f"the cache took in {filled.answered} of {len(hosts)} names")
