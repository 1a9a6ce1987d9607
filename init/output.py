"""Standard output and error that fail no command: it comes to its own end, and is told then what was not written.

The reader of a pipe may leave, as with `| head`, and a disk may be full. Neither changes what a command does; only what
writes for ever looks whether it is still heard.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STREAMS: dict[str, Output] = {}


class Output(io.FileIO):
    """A stream of this process. After the first error, kept in `failure`, everything written to it is lost."""

    failure: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what the stream takes; returns how much that was, all of it where it is lost."""
        if self.failure is None:
            try:
                while (taken := super().write(data)) is None:
                    select.select([], [self], [])  # somebody made it non-blocking, and its reader is slow
            except OSError as error:
                self.failure = error
            else:
                return taken
        return memoryview(data).nbytes


def guard() -> None:
    """Put such streams in the place of `sys.stdout` and `sys.stderr`, where these are open."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            raw = Output(stream.fileno(), "w", closefd=False)
            guarded = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            _STREAMS[name] = raw
            setattr(sys, name, guarded)


def is_heard() -> bool:
    """Tell whether what is written to standard output still arrives; flushes it."""
    if sys.stdout:
        sys.stdout.flush()
    return "stdout" not in _STREAMS or _STREAMS["stdout"].failure is None


def failures() -> Iterator[str]:
    """Flush both streams and say why what was written to them is lost. A reader who has left is nothing to tell."""
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    for stream in _STREAMS.values():
        if stream.failure and not isinstance(stream.failure, BrokenPipeError):
            yield os.strerror(stream.failure.errno or 0).lower()
