"""Door: subprocess. A program that is followed: its lines come as it writes them, and it ends when we do."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.system.runner import READ_BYTES, environment_of_programs

PR_SET_PDEATHSIG: Final = 1
"""linux/prctl.h"""


def stream(arguments: Sequence[str], stop: int) -> Iterator[str]:
    """Run a program and yield its lines as they come, until it ends or the descriptor `stop` is readable."""
    try:
        # In a session of its own: ^C is for us, and we end it.
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment_of_programs(),
            preexec_fn=_die_with_us,  # noqa: PLW1509 - one system call, and no thread of ours holds a lock for it
        )
    except OSError as error:
        raise PreflightError(f"cannot run {arguments[0]}: {error.strerror}") from error
    with process, selectors.DefaultSelector() as selector:
        try:
            yield from _lines(process, selector, stop)
        finally:
            process.kill()


def _die_with_us() -> None:
    import ctypes  # noqa: PLC0415 - 2 ms, and only what follows a stream needs it

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _lines(process: subprocess.Popen[bytes], selector: selectors.BaseSelector, stop: int) -> Iterator[str]:
    if process.stdout is None:
        return
    descriptor = process.stdout.fileno()
    selector.register(descriptor, selectors.EVENT_READ)
    selector.register(stop, selectors.EVENT_READ)
    rest = b""
    while stop not in {key.fd for key, _ in selector.select()}:
        data = os.read(descriptor, READ_BYTES)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
