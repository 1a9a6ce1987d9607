"""Door: /proc. Which programs hold the sockets that wait at a port: a socket's own uid is that of whoever opened it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshdns.capture.system.listeners import TCP_LISTEN
from meshdns.capture.system.proc import net_lines

_COLUMNS: Final = 10
EFFECTIVE: Final = 1
"""Among the uids of /proc/PID/status, which come real, effective, saved, fs."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process that holds a socket."""

    pid: int
    uid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def holders(protocol: str, port: int) -> tuple[Program, ...]:
    """Return the processes that hold a waiting socket at a port (`tcp` or `udp`), as far as we may look at them."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(protocol, port)}
    found = (_holder(process, sockets) for process in Path("/proc").glob("[0-9]*")) if sockets else ()
    return tuple(program for program in found if program)


def _inodes(protocol: str, port: int) -> Iterator[str]:
    for name in (protocol, f"{protocol}6"):
        for words in map(str.split, net_lines(name)[1:]):
            waits = len(words) >= _COLUMNS and (protocol == "udp" or words[3] == TCP_LISTEN)
            if waits and int(words[1].rpartition(":")[2], 16) == port:
                yield words[9]


def _holder(process: Path, sockets: set[str]) -> Program | None:
    try:
        if not sockets & {os.readlink(each) for each in (process / "fd").iterdir()}:  # noqa: PTH115 - what it says is no path
            return None
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        return Program(int(process.name), int(status["Uid"].split()[EFFECTIVE]), status["Name"])
    except OSError:
        return None  # it has ended, or is not ours to look at
