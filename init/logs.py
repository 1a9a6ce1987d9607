"""Where log lines go and how they look: text for people, JSON lines for collectors. Set up once, by the command."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TextIO

from meshdns.init.errors import MissingError

LINES_HELD: Final = 10_000
"""Lines that wait to be written: half a second of queries."""

CLOSE_S: Final = 1.0

logger = logging.getLogger("meshdns")


class _JsonLines(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, and `error` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class _TextLines(logging.Formatter):
    """`TIME LEVEL LOGGER: MESSAGE`, with the time of the JSON lines; without it where the journal notes its own."""

    def __init__(self, *, timed: bool) -> None:
        super().__init__(f"{'%(asctime)s ' if timed else ''}%(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's
        return _time_of(record)


def _time_of(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def set_up(level: str, style: str) -> None:
    """Send log records of `level` (debug, info, warning, error) and above to stderr as `style` text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if style == "json" else _TextLines(timed=not _is_the_journal(sys.stderr)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _is_the_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a stream leads to systemd's journal: JOURNAL_STREAM has its device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def line_writer(target: str | None) -> LineWriter | None:
    """Return what appends a line to the file `target`, or to standard output for `-`; None for no target.

    It never waits: of what a reader that stalls, or a disk that is full, does not take, lines are dropped and counted.
    """
    if target is None:
        return None
    try:
        file = sys.stdout if target == "-" else Path(target).open("a", buffering=1)  # noqa: SIM115 - open as long as we run
    except OSError as error:
        raise MissingError(f"cannot write {target}: {error.strerror}") from error
    return LineWriter(target, file)


class LineWriter:
    """A thread that writes lines, and a bounded queue before it; `dropped` lines found no room in it."""

    def __init__(self, target: str, file: TextIO) -> None:
        self._target, self._file = target, file
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_HELD)
        self.dropped = 0
        self._told = 0
        self._thread = threading.Thread(target=self._write_all, name="lines", daemon=True)
        self._thread.start()
        atexit.register(self._close)

    def put(self, line: str) -> None:
        """Have a line written, or count it where there is no room for it."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError):
                print(line, file=self._file, flush=True)
            if self.dropped > self._told and self._lines.empty():
                dropped, self._told = self.dropped - self._told, self.dropped
                logger.warning("lines for %s were dropped, as nobody took them in time: %d", self._target, dropped)

    def _close(self) -> None:
        """Let what is there be written, but wait for no reader that stalls."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
            self._thread.join(CLOSE_S)
