"""What the number of names costs: processor time per answer, and memory."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from functools import partial
from statistics import median

from bench import admin, load, names
from bench.figures import ratio
from bench.finding import Finding, at_most, within
from bench.load import Sample
from bench.mmsg import Outgoing
from bench.peers import Job, Meshdns, Serving, write_manifests
from bench.rounds import Bench

FEW, MANY = 100, 100_000
COST = 1.2
RESIDENT_MB = {100: 35, 10_000: 60}
_MB = 1e6


def cost(bench: Bench) -> Iterator[Finding]:
    """Compare two resolvers that differ in how many names they have."""
    generators: dict[str, partial[Sample]] = {}
    with contextlib.ExitStack() as stack:
        for what, count in (("few", FEW), ("many", MANY)):
            hosts = names.hosts(count)
            server = stack.enter_context(bench.serving([Meshdns()], Job(hosts, leased=False)))["meshdns"]
            generate = partial(load.window, server.port, Outgoing(bench.queries(hosts)), 64, bench.seconds)
            generators[what] = partial(load.measured, server.process, generate)
        samples = bench.take_turns(generators)
    many, few = ([sample.cpu_us for sample in samples[what]] for what in ("many", "few"))
    detail = f"{median(many):.1f} µs against {median(few):.1f}"
    yield at_most(f"{MANY:,} names against {FEW}, window 64", ratio(many, few), COST, detail)


def memory(bench: Bench) -> Iterator[Finding]:
    """Load, load again with every document changed, and look."""
    for count, limit_mb in RESIDENT_MB.items():
        peer, job = Meshdns(), Job(names.hosts(count))
        with bench.serving([peer], job) as running:
            server = running[peer.name]
            resident = [_after_reload(server, peer, job, str(number)) for number in range(bench.rounds)]
        detail = f"after each of {len(resident)} reloads: {', '.join(f'{one / _MB:.1f}' for one in resident)}"
        yield within(f"{count:,} names, after a reload", median(resident) / _MB, limit_mb, "MB", detail)


def _after_reload(server: Serving, peer: Meshdns, job: Job, note: str) -> int:
    loads = admin.metric(peer.admin, "meshdns_table_loads")
    write_manifests(job, server.home, note)
    server.process.signal(signal.SIGHUP)
    admin.reloaded(peer.admin, loads)
    return server.process.resident_bytes()
