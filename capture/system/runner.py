"""Door: posix_spawn(3). A command in, its outcome out; nothing here knows what the commands mean.

The standard library's subprocess does the same, and brings `selectors`, `signal` and `threading` along: 4 ms of every
installation, as long as one run of `nft`.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Sequence
from typing import IO, Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.values import dataclass

TIMEOUT_S: Final = 30
"""A kernel answers in milliseconds; whoever takes longer waits for a lock that nobody will give up."""
READ_BYTES: Final = 65536
_SIGKILL, _SIGPIPE = 9, 13
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
    with contextlib.ExitStack() as pipes:
        (its_input, to_it), (output, its_output), (errors, its_errors) = (_pipe(pipes) for _ in range(3))
        pid = _spawn(arguments, (its_input, its_output, its_errors))
        try:
            written = _converse(to_it, stdin.encode(), (output, errors), timeout_s)
        except BaseException as error:  # whatever ends us, ^C as well: nothing of ours runs on
            os.kill(pid, _SIGKILL)
            if isinstance(error, TimeoutError):
                raise PreflightError(f"cannot run {arguments[0]}: no end after {timeout_s:g} s") from error
            raise
        finally:
            _, status = os.waitpid(pid, 0)
    return Outcome(os.waitstatus_to_exitcode(status), *(text.decode(errors="replace") for text in written))


def _pipe(stack: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Return the end to read from and the end to write to."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    return stack.enter_context(os.fdopen(reader, "rb", 0)), stack.enter_context(os.fdopen(writer, "wb", 0))


def _spawn(arguments: Sequence[str], ends: Sequence[IO[bytes]]) -> int:
    """Start a program with these ends of pipes as its stdin, stdout and stderr, and close them here; returns its id."""
    environment = environment_of_programs()
    program = _find(arguments[0])
    if program is None:
        raise _missing(arguments[0])
    standard = [(os.POSIX_SPAWN_DUP2, end.fileno(), number) for number, end in enumerate(ends)]
    try:
        # Python ignores SIGPIPE, and programs rely on being ended by it (signal(7)).
        return os.posix_spawn(program, list(arguments), environment, file_actions=standard, setsigdef=(_SIGPIPE,))
    except OSError as error:
        raise PreflightError(f"cannot run {arguments[0]}: {error.strerror}") from error
    finally:
        for end in ends:
            end.close()


def _converse(to_it: IO[bytes], content: bytes, sources: Sequence[IO[bytes]], timeout_s: float) -> list[bytes]:
    """Write `content` and read every source to its end, as the program takes and gives; TimeoutError: it goes on."""
    deadline = time.monotonic() + timeout_s
    read = {source.fileno(): bytearray() for source in sources}
    writer = to_it.fileno()
    poll = select.poll()
    for reader in read:
        poll.register(reader, select.POLLIN)
    poll.register(writer, select.POLLOUT)
    open_sources = len(read)
    while open_sources:
        ready = poll.poll(max(deadline - time.monotonic(), 0) * 1000)
        if not ready:
            raise TimeoutError
        for descriptor, _ in ready:
            if descriptor != writer:
                data = os.read(descriptor, READ_BYTES)
                read[descriptor] += data
                if not data:
                    poll.unregister(descriptor)
                    open_sources -= 1
                continue
            try:
                content = content[os.write(writer, content[: select.PIPE_BUF]) :]
            except BrokenPipeError:
                content = b""  # it has heard enough
            if not content:
                poll.unregister(writer)
                to_it.close()
    return [bytes(text) for text in read.values()]


def demand(program: str) -> None:
    """Raise MissingProgramError where a program cannot be run because it is not here."""
    if _find(program) is None:
        raise _missing(program)


def _find(program: str) -> str | None:
    places = os.get_exec_path(environment_of_programs())
    paths = [program] if "/" in program else [f"{place}/{program}" for place in places]
    # pathlib costs 5 ms
    return next((path for path in paths if os.access(path, os.X_OK) and not os.path.isdir(path)), None)  # noqa: PTH112


def _missing(program: str) -> MissingProgramError:
    package = PACKAGES.get(program, program)
    return MissingProgramError(f"cannot run {program}: it is not on PATH: install the package {package}")


def environment_of_programs() -> dict[str, str]:
    """Return the environment of what we run: it finds the programs of netfilter, and its messages are in English."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *BESIDES_PATH))
    return {**os.environ, "PATH": path, "LC_ALL": "C"}
