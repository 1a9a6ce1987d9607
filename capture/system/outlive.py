"""Door: processes. Starts a program that goes on when we are gone, whatever ends us, in the namespace that we are in.

By systemd where it runs: in a unit of its own it outlives our session and our container of processes (systemd-run(1)).
Else as a process with a session of its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.system.namespace import NAMED, OWN
from meshdns.capture.system.runner import run

BOOTED: Final = Path("/run/systemd/system")
"""Exists where systemd is the init system (sd_booted(3))."""


def outlive(unit: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start `command`, as the transient unit `unit` where that can be; PreflightError where it cannot be started.

    `environment`: what the command needs of ours; a unit is given nothing else of it.
    """
    place = _place_for_units()
    if place is not None and run(unit_command(unit, place, command, environment)).exit_code == 0:
        return
    _start(command, environment)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a program that goes on without us, in a session of its own and in the calling thread's namespaces."""
    try:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={**os.environ, **environment},
        )
    except OSError as error:
        raise PreflightError(f"cannot start {command[0]}: {error.strerror}") from error


def unit_command(unit: str, netns: str, command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the command line that starts `command` as a unit in the network namespace at `netns`."""
    properties = [f"--property=NetworkNamespacePath={netns}"] if netns else []
    variables = [f"--setenv={name}={value}" for name, value in environment.items()]
    return ["systemd-run", "--quiet", "--collect", f"--unit={unit}", *properties, *variables, "--", *command]


def _place_for_units() -> str | None:
    """Return the path by which a unit enters our namespace, empty for systemd's own; None where no unit can."""
    if not BOOTED.is_dir():
        return None
    try:
        own = Path(OWN).stat()
        if own.st_ino == Path("/proc/1/ns/net").stat().st_ino:
            return ""
        named = list(Path(NAMED).iterdir())
    except OSError:
        return None
    return next((str(path) for path in named if _same(path, own.st_dev, own.st_ino)), None)


def _same(path: Path, device: int, inode: int) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (device, inode)
