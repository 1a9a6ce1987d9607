"""Processes that are measured: started in a session of their own, ended with all that they forked. door: processes.

What a server and the processes it forked have used is read from /proc (proc(5)); they are found by their session.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

END_S: Final = 5.0
_NS_PER_S: Final = 1_000_000_000
_ports = itertools.count(20000)


class NotMeasuredError(Exception):
    """A row cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running program and what it forked."""

    popen: subprocess.Popen[bytes]
    log: Path

    def cpu_s(self) -> float:
        """Return the processor time used so far, of all threads that live."""
        return sum(_spent_ns(pid) for pid in self._members()) / _NS_PER_S

    def resident_bytes(self) -> int:
        """Return the resident memory of the program itself, without what it forked."""
        for line in Path(f"/proc/{self.popen.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise NotMeasuredError(f"{self.name} has ended: {self.said()}")

    @property
    def name(self) -> str:
        """The program's name, without its path: what is written about a run says nothing of where it was."""
        return Path(str(self.popen.args[0])).name  # type: ignore[index]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself."""
        self.popen.send_signal(number)

    def said(self) -> str:
        """Return the last line that it wrote."""
        return (self.log.read_text(encoding="utf-8", errors="replace").splitlines() or ["it said nothing"])[-1]

    def check(self) -> None:
        """Raise if it has ended."""
        if self.popen.poll() is not None:
            raise NotMeasuredError(f"{self.name} has ended: {self.said()}")

    def _members(self) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _session(int(entry.name)) == self.popen.pid:
                yield int(entry.name)


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[Process]:
    """Run a program for the length of a block; it and what it forked are gone afterwards."""
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield Process(popen, log)
    finally:
        end(popen)


def end(popen: subprocess.Popen[bytes]) -> None:
    """Kill a program that leads its session, with all that it forked and that stayed in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait(END_S)


def run(command: Sequence[str], timeout_s: float = 60.0) -> str:
    """Run a program to its end and return what it wrote; NotMeasuredError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise NotMeasuredError(f"{' '.join(command[:3])}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout


def timed(command: Sequence[str]) -> float:
    """Run a program to its end and return the seconds that took."""
    began = time.perf_counter()
    run(command)
    return time.perf_counter() - began


def next_port() -> int:
    """Return a port that nobody was given before; the namespace that the bench runs in is its own."""
    return next(_ports)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _spent_ns(pid: int) -> int:
    spent = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                spent += int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return spent
