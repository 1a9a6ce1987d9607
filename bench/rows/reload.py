"""What a reload does to queries: the tail of a steady load while 10,000 entries change, and while none does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

from bench import admin, load, names
from bench.finding import Finding, Verdict, not_measured, printed, within
from bench.load import Sample
from bench.peers import Job, Meshdns, Serving, write_manifests
from bench.rounds import NAMES, Bench

RATE = 20_000
LIMIT_MS = 20.0
QUIET_MS = 10.0
"""Where queries wait longer than this with nothing to reload, others keep the processors, and nothing can be told."""

UNDER_LOAD_S = 5.0
"""A reload of 10,000 entries ends within it."""

CHANGE_AFTER_S = 0.5


def measure(bench: Bench) -> Iterator[Finding]:
    """Measure the same resolver, left alone and reloading, in turns."""
    hosts = names.hosts(NAMES)
    peer, job = Meshdns(), Job(hosts)
    notes = iter(range(bench.rounds))
    with bench.serving([peer], job) as running:
        server = running[peer.name]
        queries = bench.queries(hosts)
        quiet = partial(load.steady, server.port, queries, RATE, UNDER_LOAD_S)
        contenders: dict[str, Callable[[], Sample]] = {
            "quiet": quiet,
            "reloading": lambda: _reloading(server, peer, job, str(next(notes)), quiet),
        }
        samples = bench.take_turns(contenders)
    for what in ("quiet", "reloading"):
        yield printed(f"{what}: p99, p99.9 and longest wait", _tail(samples[what]), f"at {RATE:,} queries/s")
    yield _judged(*(median(max(one.latencies_s) for one in samples[what]) * 1e3 for what in ("quiet", "reloading")))
    lost = sum(one.lost for one in samples["reloading"])
    yield Finding("lost while reloading", "0", str(lost), Verdict.MISSED if lost else Verdict.MET)


def _judged(quiet_ms: float, reloading_ms: float) -> Finding:
    """Judge the longest wait, unless queries wait about as long without any reload."""
    what = "longest wait while reloading"
    if reloading_ms > LIMIT_MS and quiet_ms > QUIET_MS:
        noisy = f"too noisy: {reloading_ms:.1f} ms, and {quiet_ms:.1f} ms without any reload"
        return not_measured(what, noisy, f"≤ {LIMIT_MS:g} ms")
    return within(what, reloading_ms, LIMIT_MS, "ms")


def _reloading(server: Serving, peer: Meshdns, job: Job, note: str, generate: partial[Sample]) -> Sample:
    """Generate load, and change every document while it runs."""
    loads = admin.metric(peer.admin, "meshdns_table_loads")
    texts = threading.Timer(CHANGE_AFTER_S, write_manifests, (job, server.home, note))
    texts.start()
    sample = generate()
    texts.join()
    admin.reloaded(peer.admin, loads)
    return sample


def _tail(samples: list[Sample]) -> str:
    p99, p999, longest = (median(one.latency_us(percent) for one in samples) for percent in (99, 99.9, 100))
    return f"{p99 / 1e3:.2f}, {p999 / 1e3:.2f}, {longest / 1e3:.1f} ms"
