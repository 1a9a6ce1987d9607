"""`make bench`: every promise about speed and size, measured as ratios in one run. door: namespaces, files.

    python -m bench.run [--rows NAME...] [--rounds N] [--seconds S]

Runs in a network namespace of its own, so that no rule of the machine is in the way and no port is taken, and nothing
of the machine's network is touched. A run of all rows writes bench/RESULTS.md and docs/bench.svg.
"""

from __future__ import annotations

import argparse
import compileall
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import machine, report
from bench.chart import chart
from bench.finding import Finding, not_measured
from bench.peers import CoreDns, Dnsmasq, Meshdns, Nsd, Unbound
from bench.process import NotMeasuredError
from bench.report import Section
from bench.rounds import Bench
from bench.rows import capture, forwarding, latency, local, relay, reload, size, start

ROUNDS_LEAST: Final = 5
"""Fewer rounds show that a row works, not what it measures."""

ROUNDS: Final = 9
SECONDS: Final = 0.6
"""Other programs come and go: many short rounds give a steadier median than a few long ones."""

SEED: Final = 15053
ROOT: Final = Path(__file__).resolve().parent.parent

_CLONE_NEWNET: Final = 0x40000000


@dataclass(frozen=True, slots=True)
class Row:
    """One part of the bench that can be asked for by name."""

    name: str
    title: str
    measure: Callable[[Bench], Iterator[Finding]]


ROWS: Final = (
    Row("local", "answers from our own names, 10,000 of them", local.measure),
    Row("forwarded", "names of others, not cached, one at a time", forwarding.forwarded),
    Row("cached", "names of others, cached", forwarding.cached),
    Row("latency", f"{latency.RATE:,} queries/s, open loop", latency.measure),
    Row("names", "processor time per answer against the number of names", size.cost),
    Row("memory", "resident memory after a reload", size.memory),
    Row("start", "start to the first own answer, 10,000 entries unchanged since the last run", start.start),
    Row("load", "10,000 entries read, checked, leased and built", start.load_entries),
    Row("reload", "10,000 entries changed and swapped under load", reload.measure),
    Row("capture", "capture install, whole process", capture.measure),
    Row("relay", "TCP through the relay", relay.measure),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; write bench/RESULTS.md and docs/bench.svg when everything was measured."""
    options = _options(arguments)
    chosen = [row for row in ROWS if not options.rows or row.name in options.rows]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _enter_namespace()
    for package in ("capture", "resolver", "relay", "init"):
        compileall.compile_dir(ROOT / package, quiet=1)
    began, others = time.monotonic(), machine.Others()
    try:
        sections = [_measured(row, options.rounds, options.seconds) for row in chosen]
    except KeyboardInterrupt:
        print("interrupted: no row is left running", file=sys.stderr)
        return 130
    minutes = (time.monotonic() - began) / 60
    note = f"{options.rounds} rounds of {options.seconds:g} s per contender, {minutes:.0f} min in all; "
    note += f"other programs took {others.percent():.0f} % of the processors"
    print(report.summary(sections), note, sep="\n")
    if len(chosen) == len(ROWS) and options.rounds >= ROUNDS_LEAST:
        _write_results(sections, note)
    return 0


def _write_results(sections: Sequence[Section], note: str) -> None:
    versions = machine.versions([Meshdns(), Dnsmasq(), Nsd(), Unbound(), CoreDns()])
    for name, command in (("HAProxy", ("haproxy", "-v")), ("socat", ("socat", "-V")), ("nft", ("nft", "--version"))):
        if shutil.which(command[0]):
            versions[name] = machine.version(*command)
    page = report.markdown(sections, machine.describe(), versions, f"{time.strftime('%Y-%m-%d')}, {note}.")
    (ROOT / "bench" / "RESULTS.md").write_text(page)
    (ROOT / "docs" / "bench.svg").write_text(chart(sections))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measure speed and size as ratios.")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], metavar="NAME", help="only these rows")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds per row (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="seconds per contender and round (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("rounds and seconds must be above 0")
    return options


def _measured(row: Row, rounds: int, seconds: float) -> Section:
    """Measure one row and print it; what stopped it becomes its last finding."""
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="meshdns-bench-") as directory:
        try:
            findings.extend(row.measure(Bench(rounds, seconds, Path(directory), random.Random(SEED))))
        except (NotMeasuredError, OSError, subprocess.SubprocessError) as error:
            findings.append(not_measured(row.title, str(error)))
    section = Section(row.name, row.title, tuple(findings))
    print("\n".join(report.lines(section)), flush=True)
    return section


def _enter_namespace() -> None:
    """Leave the machine's network for one that ends with this process."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot make a network namespace: run it as `make bench`")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Sockets that have just been closed may not run out of ports while connections are counted.
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("30000 65000")
    os.environ["PATH"] = f"{ROOT / '.peers' / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"


if __name__ == "__main__":
    sys.exit(main())
