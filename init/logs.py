"""Where log lines go and how they look: text for people, JSON lines for collectors. Set up once, by the command."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from meshdns.init.errors import MissingError


class _JsonLines(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, and `error` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(level: str, style: str) -> None:
    """Send log records of `level` (debug, info, warning, error) and above to stderr as `style` text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if style == "json" else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def line_writer(target: str | None) -> Callable[[str], None] | None:
    """Return what appends a line to the file `target`, or to standard output for `-`; None for no target."""
    if target is None:
        return None
    try:
        file = sys.stdout if target == "-" else Path(target).open("a", buffering=1)  # noqa: SIM115 - open as long as we run
    except OSError as error:
        raise MissingError(f"cannot write {target}: {error.strerror}") from error

    def write(line: str) -> None:
        # A full disk costs log lines, never answers.
        with contextlib.suppress(OSError):
            print(line, file=file, flush=True)

    return write
