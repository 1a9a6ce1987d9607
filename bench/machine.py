"""What the figures were taken on: processor, kernel, versions; never a path or a host's name. door: /proc."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bench.peers import Peer, program_of

_VERSION: Final = re.compile(r"\d+\.\d+[\w.+-]*")


def describe() -> dict[str, str]:
    """Return what the machine is."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "Python": platform.python_version(),
    }


class Others:
    """How much of the processors other programs take while the bench runs: what its spread is to be read with."""

    def __init__(self) -> None:
        self._busy, self._all = _jiffies()
        self._own = _own_s()

    def percent(self) -> float:
        """Return their part since the beginning."""
        busy, total = _jiffies()
        own = (_own_s() - self._own) * os.sysconf("SC_CLK_TCK")
        return max(100 * (busy - self._busy - own) / max(total - self._all, 1), 0.0)


def _jiffies() -> tuple[int, int]:
    """Return how long the processors were busy, and altogether (proc(5): idle and iowait are the 4th and 5th)."""
    line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    parts = [int(part) for part in line.split()[1:9]]
    return sum(parts) - parts[3] - parts[4], sum(parts)


def _own_s() -> float:
    """Return the processor time of the bench and of what it ran and has ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def versions(programs: Iterable[Peer]) -> dict[str, str]:
    """Return the version of every program that is installed."""
    return {peer.name: version(path, *peer.version) for peer in programs if (path := program_of(peer))}


def version(*command: str) -> str:
    """Return the first thing in what a program says that looks like a version."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    found = _VERSION.search(done.stdout + done.stderr)
    return found[0] if found else "unknown"
