"""Namespaces that end with the demo, whatever ends it; door: processes, mounts.

The demo runs itself again as the first process of a new PID namespace: when that process dies, the kernel kills all
others in there, and network and mount namespaces go with the last of them. Nothing has a name, so nothing is left.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from meshdns.init.errors import MissingError

_MARK: Final = "MESHDNS_INSIDE_DEMO"
"""Set to 1 for the process that runs inside, which is the first of its PID namespace as well."""

MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000


def inside() -> bool:
    """Tell whether this process is the one inside."""
    return os.environ.get(_MARK) == "1" and os.getpid() == 1


def run_inside(arguments: Sequence[str]) -> None:
    """Replace this process by `python ARGUMENTS` in namespaces of its own, as root of them; does not return.

    Raises MissingError where a program, or for an ordinary user the subordinate ids, are missing.
    """
    if shutil.which("unshare") is None:
        raise MissingError("cannot make namespaces: there is no program unshare: install the package util-linux")
    flags = ["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        _check_subordinate_ids()
        flags += ["--user", "--map-root-user", "--map-auto"]
    sys.stdout.flush()
    os.execvpe("unshare", ["unshare", *flags, "--", sys.executable, *arguments], {**os.environ, _MARK: "1"})  # noqa: S606


def _check_subordinate_ids() -> None:
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's arbitrary uid
        user = str(os.geteuid())
    if shutil.which("newuidmap") is None:
        message = "cannot be root of a namespace with a uid for the proxy: install the package uidmap, or run as root"
        raise MissingError(message)
    for table in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = table.read_text().splitlines() if table.exists() else []
        if not any(line.startswith((f"{user}:", f"{os.geteuid()}:")) for line in lines):
            message = (
                f"cannot map the proxy's uid: {table} has no line for {user}: add {user}:100000:65536, or run as root"
            )
            raise MissingError(message)


def bind(source: Path, target: Path) -> None:
    """Make `source` appear at `target` (mount --bind), in this mount namespace only."""
    _mount(str(source), str(target), None, MS_BIND | MS_REC, None)


def cover(directory: Path) -> None:
    """Make `directory` an empty one that everybody may enter, in this mount namespace only."""
    _mount("tmpfs", str(directory), "tmpfs", 0, "mode=755")


def let_everybody_read(needed: Iterable[Path]) -> None:
    """Make the `needed` directories reachable for every uid, in this mount namespace only.

    A virtual environment below /root cannot be read by uid 1337. An ancestor that is closed to others is covered, and
    the needed directories below it are put back where they were.
    """
    closed: dict[Path, list[Path]] = {}
    for directory in {path.resolve() for path in needed} | {path.absolute() for path in needed}:
        ancestor = next((p for p in reversed(directory.parents) if not p.stat().st_mode & stat.S_IXOTH), None)
        if ancestor is not None:
            closed.setdefault(ancestor, []).append(directory)
    for ancestor, directories in closed.items():
        kept = [(os.open(directory, os.O_PATH), directory) for directory in sorted(directories)]
        cover(ancestor)
        for descriptor, directory in kept:
            directory.mkdir(parents=True, exist_ok=True)
            bind(Path(f"/proc/self/fd/{descriptor}"), directory)
            os.close(descriptor)


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    if libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]):
        number = ctypes.get_errno()
        raise MissingError(f"cannot mount over {target}: {os.strerror(number)}")
