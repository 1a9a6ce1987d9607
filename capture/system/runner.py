"""Door: subprocess. A command in, its outcome out; nothing here knows what the commands mean."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.values import dataclass

TIMEOUT_S: Final = 30
"""A kernel answers in milliseconds; whoever takes longer waits for a lock that nobody will give up."""
READ_BYTES: Final = 65536
PR_SET_PDEATHSIG: Final = 1
"""linux/prctl.h"""
PACKAGES: Final = {
    "nft": "nftables",
    "unshare": "util-linux",
    **{
        f"{program}-{variant}-{what}": "iptables"
        for program in ("iptables", "ip6tables")
        for variant in ("legacy", "nft")
        for what in ("save", "restore")
    },
}
"""Debian's names for what holds a program."""
BESIDES_PATH: Final = ("/usr/sbin", "/sbin")
"""Where Debian keeps the programs of netfilter, and where the PATH of an ordinary user does not look."""


class MissingProgramError(PreflightError):
    """A program is not on PATH."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended and what it wrote."""

    exit_code: int
    output: str
    errors: str


def run(arguments: Sequence[str], stdin: str = "", *, timeout_s: float = TIMEOUT_S) -> Outcome:
    """Run a program to its end; PreflightError where it is missing or does not end."""
    program = arguments[0]
    try:
        done = subprocess.run(
            arguments,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=_environment(),
        )
    except FileNotFoundError as error:
        raise _missing(program) from error
    except PermissionError as error:
        raise PreflightError(f"cannot run {program}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise PreflightError(f"cannot run {program}: no end after {timeout_s:g} s") from error
    return Outcome(done.returncode, done.stdout, done.stderr)


def demand(program: str) -> None:
    """Raise MissingProgramError where a program cannot be run because it is not here."""
    places = os.get_exec_path(_environment())
    if not any(os.access(f"{place}/{program}", os.X_OK) for place in places):
        raise _missing(program)


def _missing(program: str) -> MissingProgramError:
    package = PACKAGES.get(program, program)
    return MissingProgramError(f"cannot run {program}: it is not on PATH: install the package {package}")


def _environment() -> dict[str, str]:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *BESIDES_PATH))
    return {**os.environ, "PATH": path, "LC_ALL": "C"}  # messages are matched in English


def start(arguments: Sequence[str]) -> None:
    """Start a program that goes on without us, in a session of its own and in the calling thread's namespaces."""
    try:
        subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        raise PreflightError(f"cannot start {arguments[0]}: {error.strerror}") from error


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
            env=_environment(),
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
