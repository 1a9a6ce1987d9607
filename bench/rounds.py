"""How contenders take turns: every round measures each of them once, and each round begins with another one."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench import names, peers
from bench.peers import Job, Peer, Serving

T = TypeVar("T")

NAMES = 10_000
DRAWN = 50_000


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row is given: how long and how often to measure, a directory of its own, and chance."""

    rounds: int
    seconds: float
    home: Path
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def take_turns(self, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
        """Measure every contender in every round; nobody is always first."""
        order = list(contenders)
        results: dict[str, list[T]] = {name: [] for name in order}
        for number in range(self.rounds):
            first = number % len(order)
            for name in (*order[first:], *order[:first]):
                results[name].append(contenders[name]())
        return results

    @contextlib.contextmanager
    def serving(self, contenders: Sequence[Peer], job: Job) -> Iterator[dict[str, Serving]]:
        """Run all of the contenders that are installed at once; each idles while another is measured."""
        with contextlib.ExitStack() as stack:
            running = {}
            for peer in contenders:
                if peers.program_of(peer):
                    home = self.home / f"{len(list(self.home.iterdir()))}-{peer.name}"
                    running[peer.name] = stack.enter_context(peers.serving(peer, job, home))
            yield running

    def queries(self, hosts: Sequence[str], *, edns: bool = False, count: int = DRAWN) -> list[bytes]:
        """Return queries for names drawn at random."""
        made = {name: names.query(name, edns=edns) for name in hosts}
        return [made[name] for name in names.drawn(hosts, count, self.chance)]


def pace(seconds: float) -> str:
    """Write a short time so that it can be read."""
    return (
        f"{seconds * 1e6:.0f} µs"
        if seconds < 1e-3
        else f"{seconds * 1e3:.1f} ms"
        if seconds < 1
        else f"{seconds:.2f} s"
    )
