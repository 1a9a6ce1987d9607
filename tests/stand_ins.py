"""Programs that stand in front of the real ones on PATH and spoil some of their runs.

    programs = stand_ins(tmp_path, ("nft",))
    pod.run(MESHDNS, "capture", "install", environment=programs.environment("1 before"), check=False)

The first kills who runs it: before it has done anything, or while it does its work, which it then finishes alone.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from shutil import which

KILLING = """#!/bin/sh
echo "$0" >> {runs}
number=$(wc -l < {runs})
case "$KILL_AT" in
"$number before")
    kill -9 $PPID
    exit 1 ;;
"$number while")
    cat > {runs}.stdin
    kill -9 $PPID
    {program} "$@" < {runs}.stdin > /dev/null 2>&1
    echo done >> {runs}.done
    exit ;;
esac
exec {program} "$@"
"""
SIGNALLING = """#!/bin/bash
echo "$0" >> {runs}
number=$(wc -l < {runs})
[ "$KILL_AT" = "$number before" ] && kill -s "$SIGNAL" 0
{program} "$@"
code=$?
[ "$KILL_AT" = "$number after" ] && kill -s "$SIGNAL" 0
exit $code
"""
"""Signals its group of processes, as a terminal does: us, and what we have started. (dash lets through what waits.)"""
FAILING = """#!/bin/sh
case "$1" in -f) kind=change ;; *) kind=read ;; esac
echo "$0" >> {runs}.$kind
number=$(wc -l < {runs}.$kind)
case " $FAIL " in *" $kind "* | *" $kind:$number "*)
    cat > /dev/null
    echo "no $kind today" >&2
    exit 1 ;;
esac
exec {program} "$@"
"""
"""An nft that fails in the runs that are named, without doing anything."""


@dataclass(frozen=True, slots=True)
class StandIns:
    """Programs in front of the real ones on PATH."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def environment(self, kill_at: str = "", signal_name: str = "") -> dict[str, str]:
        """Return the environment in which the run named by `kill_at`, such as `2 before`, is the last."""
        self.runs.write_text("", encoding="ascii")
        self.runs.with_suffix(".done").unlink(missing_ok=True)
        return {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "KILL_AT": kill_at, "SIGNAL": signal_name}

    def failing(self, *runs: str) -> dict[str, str]:
        """Return the environment in which these runs fail: all of `change` or `read`, or one such as `read:2`."""
        for counted in self.folder.glob("runs.*"):
            counted.unlink()
        return {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "FAIL": " ".join(runs)}

    def await_the_orphan(self) -> None:
        """Wait until the program that finishes alone has finished."""
        while not self.runs.with_suffix(".done").exists():
            time.sleep(0.01)


def stand_ins(folder: Path, programs: tuple[str, ...], text: str = KILLING) -> StandIns:
    """Put a stand-in of that text in front of each of the programs."""
    for program in programs:
        real = which(program)
        assert real
        script = folder / program
        script.write_text(text.format(runs=folder / "runs", program=real), encoding="ascii")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return StandIns(folder)
