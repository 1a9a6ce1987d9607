"""What is looked at before a resolver serves: its uid, its manifests, how many files it may open. door: limits.

What would keep it from serving is a PreflightError; what only makes it smaller is told.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from meshdns.resolver.errors import PreflightError
from meshdns.resolver.serve.settings import ServeSettings
from meshdns.resolver.serve.stream import CONNECTIONS_MAX

FILES_PER_STREAM: Final = 4
"""Open files for each place of a TCP client: where there are few, forwarding must not end because clients connect."""

logger = logging.getLogger("meshdns.resolver")


def check(settings: ServeSettings) -> None:
    """Refuse what cannot work; PreflightError."""
    _check_uid(settings)
    _check_manifests(settings.table.manifests)


def raise_descriptor_limit() -> None:
    """Take all the open files that there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stream_places() -> int:
    """Return how many TCP clients there may be; fewer than usual are told of."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    places = min(max(files // FILES_PER_STREAM, 1), CONNECTIONS_MAX)
    if places < CONNECTIONS_MAX:
        logger.warning("at most %d clients are answered over TCP: the limit of open files is %d", places, files)
    return places


def _check_uid(settings: ServeSettings) -> None:
    if settings.heartbeat_interval_s is not None and os.getuid() != settings.proxy_uid:
        raise PreflightError(
            f"cannot send a heartbeat as uid {os.getuid()}: the rules let only uid {settings.proxy_uid} through: "
            f"run as that uid, give the --proxy-uid that capture was installed with, or --no-heartbeat"
        )


def _check_manifests(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            if path.is_dir():
                next(path.iterdir(), None)
            else:
                path.open("rb").close()
        except OSError as error:
            raise PreflightError(f"cannot read the manifests at {path}: {error.strerror}") from error
    if paths and not os.access(sys.executable, os.X_OK, effective_ids=True):
        raise PreflightError(f"cannot load manifests: {_why_not_python(Path(sys.executable or 'python'))}")


def _why_not_python(python: Path) -> str:
    """Say what keeps this user from its own interpreter, which every load is a child of."""
    what, fix = f"execute {python}", python
    for directory in (*reversed(python.parents), *reversed(python.resolve().parents)):
        if not os.access(directory, os.X_OK, effective_ids=True):
            what, fix = f"reach {python}: it may not search {directory}", directory
            break
    return (
        f"uid {os.geteuid()} cannot {what}: `chmod a+x {fix}`, or install meshdns where every user may look, "
        f"such as under /opt"
    )
