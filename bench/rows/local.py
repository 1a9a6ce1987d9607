"""Local answers: throughput at window 64 and 1, with and without EDNS, against the peers and against the floor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import median

from bench import load, names
from bench.figures import ratio
from bench.finding import Finding, at_least, not_measured, printed
from bench.load import Sample
from bench.mmsg import Outgoing
from bench.peers import CoreDns, Dnsmasq, Floor, Job, Meshdns, Nsd, Peer, Serving, Unbound
from bench.rounds import NAMES, Bench

DNSMASQ_64, DNSMASQ_1, NSD_64 = 1.0, 0.8, 0.5
FLOOR, FLOOR_EDNS = 0.7, 0.65


def measure(bench: Bench) -> Iterator[Finding]:
    """Measure everything that answers from its own names."""
    hosts = names.hosts(NAMES)
    for edns in (False, True):
        contenders: list[Peer] = [Meshdns(), Dnsmasq(), Nsd(), Unbound(), CoreDns(), Floor(edns)]
        with bench.serving(contenders, Job(hosts)) as running:
            for size in (64, 1):
                samples = bench.take_turns(_generators(bench, hosts, running, size, edns=edns))
                yield from _judge(samples, size, edns=edns)


def _generators(
    bench: Bench, hosts: Sequence[str], running: Mapping[str, Serving], size: int, *, edns: bool
) -> dict[str, partial[Sample]]:
    made = {}
    queries = bench.queries(hosts, edns=edns)
    laid_out = Outgoing(queries)
    for name, server in running.items():
        if size == 1:
            generate = partial(load.one_at_a_time, server.port, queries, bench.seconds)
        else:
            generate = partial(load.window, server.port, laid_out, size, bench.seconds)
        made[name] = partial(load.measured, server.process, generate)
    return made


def _judge(samples: Mapping[str, Sequence[Sample]], size: int, *, edns: bool) -> Iterator[Finding]:
    ours = samples["meshdns"]
    rates = [sample.rate for sample in ours]
    title = f"window {size}{', EDNS' if edns else ''}"
    for name, limit in _targets(size, edns=edns).items():
        what = f"{title}: answers/s against {name}"
        if name not in samples:
            yield not_measured(what, f"{name} is not installed")
            continue
        theirs = samples[name]
        compared = ratio(rates, [sample.rate for sample in theirs])
        spent = ratio([sample.cpu_us for sample in ours], [sample.cpu_us for sample in theirs])
        detail = f"{_absolute(ours)} against {_absolute(theirs)}; processor time per answer {spent.median:.2f} times"
        yield printed(what, compared, detail) if limit is None else at_least(what, compared, limit, detail)


def _targets(size: int, *, edns: bool) -> dict[str, float | None]:
    if size == 1:
        return {"dnsmasq": DNSMASQ_1, "NSD": None, "Unbound": None, "CoreDNS": None, "floor": None}
    floor = FLOOR_EDNS if edns else FLOOR
    return {"dnsmasq": DNSMASQ_64, "NSD": NSD_64, "Unbound": None, "CoreDNS": None, "floor": floor}


def _absolute(samples: Sequence[Sample]) -> str:
    rate = median(sample.rate for sample in samples)
    return f"{rate:,.0f}/s, {median(sample.cpu_us for sample in samples):.1f} µs"
