"""Door: subprocess. A program that is followed: its lines come as it writes them, and it ends when we do."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Sequence
from typing import IO, Final

from meshdns.capture.errors import ApplyError, PreflightError
from meshdns.capture.system.runner import READ_BYTES, environment_of_programs

PR_SET_PDEATHSIG: Final = 1
"""linux/prctl.h"""


def stream(arguments: Sequence[str], stop: int) -> Iterator[str]:
    """Run a program and yield its lines as they come, until the descriptor `stop` is readable.

    PreflightError: it cannot be run. ApplyError: it ended by itself, and why.
    """
    with tempfile.TemporaryFile() as errors, _started(arguments, errors) as process:
        try:
            if (yield from _lines(process, stop)):
                return
            code = process.wait()
        finally:
            process.kill()
        errors.seek(0)
        said = " ".join(errors.read(READ_BYTES).decode(errors="replace").split())
        why = f"exit code {code}: {said}" if said else f"exit code {code}"
        raise ApplyError(f"cannot go on reading from `{' '.join(arguments)}`: it ended by itself: {why}")


def _started(arguments: Sequence[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        # In a session of its own: ^C is for us, and we end it.
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env=environment_of_programs(),
            preexec_fn=_die_with_us,  # noqa: PLW1509 - one system call, and no thread of ours holds a lock for it
        )
    except OSError as error:
        raise PreflightError(f"cannot run {arguments[0]}: {error.strerror}") from error


def _die_with_us() -> None:
    import ctypes  # noqa: PLC0415 - 2 ms, and only what follows a stream needs it

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _lines(process: subprocess.Popen[bytes], stop: int) -> Generator[str, None, bool]:
    """Yield the lines that a program writes; returns whether `stop` ended them, and not the program."""
    if process.stdout is None:
        return False
    descriptor = process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        selector.register(stop, selectors.EVENT_READ)
        rest = b""
        while stop not in {key.fd for key, _ in selector.select()}:
            data = os.read(descriptor, READ_BYTES)
            if not data:
                return False
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
    return True
