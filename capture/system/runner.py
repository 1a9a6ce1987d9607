"""Door: subprocess. A command in, its outcome out; nothing here knows what the commands mean."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshdns.capture.errors import PreflightError

TIMEOUT_S: Final = 30
"""A kernel answers in milliseconds; whoever takes longer waits for a lock that nobody will give up."""
PACKAGES: Final = {
    "nft": "nftables",
    **{
        f"{program}-{variant}-{what}": "iptables"
        for program in ("iptables", "ip6tables")
        for variant in ("legacy", "nft")
        for what in ("save", "restore")
    },
}
"""Debian's names for what holds a program."""


class MissingProgramError(PreflightError):
    """A program is not on PATH."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended and what it wrote."""

    exit_code: int
    output: str
    errors: str


def run(arguments: Sequence[str], stdin: str = "") -> Outcome:
    """Run a program to its end; PreflightError where it is missing or does not end."""
    program = arguments[0]
    try:
        done = subprocess.run(
            arguments,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},  # messages are matched in English
        )
    except FileNotFoundError as error:
        package = PACKAGES.get(program, program)
        raise MissingProgramError(f"cannot run {program}: it is not on PATH: install the package {package}") from error
    except PermissionError as error:
        raise PreflightError(f"cannot run {program}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise PreflightError(f"cannot run {program}: no end after {TIMEOUT_S} s") from error
    return Outcome(done.returncode, done.stdout, done.stderr)


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
