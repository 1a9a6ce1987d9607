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
    if target == "-":
        return LineWriter("standard output", sys.stdout.fileno())
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise MissingError(f"cannot write {target}: {error.strerror}") from error
    return LineWriter(target, descriptor)


class LineWriter:
    """A thread that writes lines, and a bounded queue before it; what is lost is told when it begins and when it ends.

    No buffer stands behind the queue: what one holds back while a disk is full is neither lost nor written.
    """

    def __init__(self, name: str, descriptor: int) -> None:
        self._name, self._descriptor = name, descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(LINES_HELD)
        self._without_room = self._unwritten = self._told = 0
        self._begun = b""
        """The rest of a line of which the disk took a part: it is written before anything else."""
        self._thread = threading.Thread(target=self._write_all, name="lines", daemon=True)
        self._thread.start()
        atexit.register(self._close)

    @property
    def dropped(self) -> int:
        """How many lines are lost: there was no room in the queue, or they could not be written."""
        return self._without_room + self._unwritten

    def put(self, line: str) -> None:
        """Have a line written, or count it where there is no room for it."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._without_room += 1

    def _write_all(self) -> None:
        failing = False
        while (line := self._lines.get()) is not None:
            error = self._write(f"{line}\n".encode())
            if error is not None:
                if not failing:
                    cause = (error.strerror or str(error)).lower()
                    logger.warning("cannot write to %s: %s: lines are lost until it takes them", self._name, cause)
                failing = True
            elif self._lines.empty():
                if failing:
                    self._tell_lost("%s takes lines again; of those before were lost: %d")
                else:
                    self._tell_lost("lines for %s were dropped, as nobody took them in time: %d")
                failing = False
        self._tell_lost("lines for %s were lost: %d")

    def _write(self, line: bytes) -> OSError | None:
        """Write a line; return what keeps it from being written whole. Only one that was not even begun is lost."""
        left = self._begun + line
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            is_begun = len(left) < len(line)
            self._unwritten += not is_begun
            self._begun = left if is_begun else left[: -len(line)]
            return error
        self._begun = b""
        return None

    def _tell_lost(self, text: str) -> None:
        lost, self._told = self.dropped - self._told, self.dropped
        if lost:
            logger.warning(text, self._name, lost)

    def _close(self) -> None:
        """Let what is there be written, but wait for no reader that stalls."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
            self._thread.join(CLOSE_S)
