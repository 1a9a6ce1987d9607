"""How long it takes to be there: a start with entries that have not changed, and a load of entries never seen."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

from bench import admin, load, names, peers
from bench.figures import ratio
from bench.finding import Finding, at_most, not_measured, printed
from bench.peers import CoreDns, Dnsmasq, Job, Meshdns, Nsd, Peer
from bench.process import NotMeasuredError, next_port, run, running
from bench.rounds import NAMES, Bench, pace

START, LOAD = 3.0, 1.2
KEPT_S = 60.0
JUDGES = ("CoreDNS", "NSD")
"""The first of them that is installed."""


def start(bench: Bench) -> Iterator[Finding]:
    """Start each server anew in every round, over the files and the state that it left."""
    state = bench.home / "state"
    state.mkdir()
    ours = Meshdns(options=("--state", str(state), "--before-loaded", "servfail"))
    contenders: dict[str, Peer] = {peer.name: peer for peer in (ours, CoreDns(), Nsd(), Dnsmasq())}
    there = {name: peer for name, peer in contenders.items() if peers.program_of(peer)}
    job = Job(names.hosts(NAMES))
    starts = {name: partial(_first_answer, peer, job, bench.home / name) for name, peer in there.items()}
    for once in starts.values():
        once()
    took = bench.take_turns(starts)
    judge = next((name for name in JUDGES if name in took), None)
    for name in contenders:
        if name == ours.name:
            continue
        if name not in took:
            yield not_measured(f"against {name}", f"{name} is not installed")
            continue
        compared = ratio(took[ours.name], took[name])
        detail = f"{pace(median(took[ours.name]))} against {pace(median(took[name]))}"
        if name == judge:
            yield at_most(f"against {name}", compared, START, detail)
        else:
            yield printed(f"against {name}", compared, detail)


def _first_answer(peer: Peer, job: Job, home: Path) -> float:
    """Return the seconds from a server's start to its first answer to the last of its names."""
    home.mkdir(exist_ok=True)
    port = next_port()
    command = _command(peer, job, home, port)
    query = names.query(job.hosts[-1], edns=False)
    began = time.perf_counter()
    with running(command, home / "log") as process:
        load.first_answer(port, query, process)
        took = time.perf_counter() - began
        if isinstance(peer, Meshdns):
            _wait_until_kept(home.parent / "state")
    return took


def _wait_until_kept(state: Path) -> None:
    """Wait for what it keeps for the next start: it writes that after its first answer."""
    give_up = time.monotonic() + KEPT_S
    while not (state / "shelf" / "table").exists():
        if time.monotonic() > give_up:
            raise NotMeasuredError(f"the resolver has kept nothing after {KEPT_S:g} s")
        time.sleep(0.02)


def _command(peer: Peer, job: Job, home: Path, port: int) -> list[str]:
    """Return the command; manifests that are there already stay as they are, down to their times."""
    manifests = home / "manifests"
    if not isinstance(peer, Meshdns) or not manifests.exists():
        return peer.command(job, home, port)
    without = Job(upstream=job.upstream)
    return [*peer.command(without, home, port), "--manifests", str(manifests)]


def load_entries(bench: Bench) -> Iterator[Finding]:
    """Compare a first load with PyYAML's CSafeLoader that reads the same files and does nothing with them."""
    job = Job(names.hosts(NAMES))
    home = bench.home / "load"
    home.mkdir()
    peers.write_manifests(job, home)
    manifests = str(home / "manifests")
    contenders: dict[str, Callable[[], float]] = {
        "meshdns": partial(_load, home, job),
        "CSafeLoader": lambda: float(run([sys.executable, "-m", "bench.csafeloader", manifests])),
    }
    took = bench.take_turns(contenders)
    detail = f"{pace(median(took['meshdns']))} against {pace(median(took['CSafeLoader']))}"
    yield at_most("against CSafeLoader", ratio(took["meshdns"], took["CSafeLoader"]), LOAD, detail)


def _load(home: Path, job: Job) -> float:
    """Return what a resolver that starts without state says its first load took."""
    peer = Meshdns()
    with running(_command(peer, job, home, next_port()), home / "log"):
        admin.ready(peer.admin)
        return admin.metric(peer.admin, "meshdns_table_load_seconds")
