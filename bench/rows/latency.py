"""How long answers take at a steady rate, open loop: p50 and p99."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from bench import load, names
from bench.figures import ratio
from bench.finding import Finding, Verdict, at_most, not_measured, printed
from bench.peers import CoreDns, Dnsmasq, Job, Meshdns, Nsd, Unbound
from bench.rounds import NAMES, Bench

RATE = 10_000
P99 = 1.5
JUDGED_BELOW_US = 1000.0
"""With a p99 of dnsmasq above this it is the machine that is measured."""


def measure(bench: Bench) -> Iterator[Finding]:
    """Ask everybody at the same steady rate."""
    hosts = names.hosts(NAMES)
    with bench.serving([Meshdns(), Dnsmasq(), Nsd(), Unbound(), CoreDns()], Job(hosts)) as running:
        queries = bench.queries(hosts)
        generators = {}
        for name, server in running.items():
            generate = partial(load.steady, server.port, queries, RATE, bench.seconds)
            generators[name] = partial(load.measured, server.process, generate)
        samples = bench.take_turns(generators)
    ours = samples["meshdns"]
    for name in ("dnsmasq", "NSD", "Unbound", "CoreDNS"):
        if name not in samples:
            yield not_measured(f"p99 against {name}", f"{name} is not installed")
            continue
        for percent in (50, 99):
            mine, theirs = ([sample.latency_us(percent) for sample in side] for side in (ours, samples[name]))
            lost = sum(sample.lost for sample in ours), sum(sample.lost for sample in samples[name])
            detail = f"{median(mine):.0f} µs against {median(theirs):.0f}; lost {lost[0]} and {lost[1]}"
            what, compared = f"p{percent} against {name}", ratio(mine, theirs)
            if name != "dnsmasq" or percent != 99:
                yield printed(what, compared, detail)
            elif median(theirs) < JUDGED_BELOW_US:
                yield at_most(what, compared, P99, detail)
            else:
                yield Finding(what, f"≤ {P99:g}", str(compared), Verdict.NOT_MEASURED, f"too noisy: {detail}")
