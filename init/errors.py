"""What the front end itself cannot go on after."""

from __future__ import annotations

from typing import ClassVar, Final

INTERRUPTED: Final = 130
"""Exit code after SIGINT, as a shell has it: 128 and the signal's number."""


class InitError(Exception):
    """Base of every error that the front end raises on purpose; its text is one line for the operator."""

    exit_code: ClassVar[int]


class InterruptionError(InitError):
    """SIGINT came: ^C on a terminal."""

    exit_code = INTERRUPTED


class ConfigurationError(InitError):
    """A settings file or an environment variable that cannot be understood."""

    exit_code = 2


class MissingError(InitError):
    """A program, a privilege or a running resolver that the command needs is not there."""

    exit_code = 3


class UndoneError(InitError):
    """A change failed and was taken back."""

    exit_code = 4


class LeftoverError(InitError):
    """Taking a change back failed too; the text says what is left."""

    exit_code = 5


class UnexpectedError(InitError):
    """The demo, or what was set up, did not show what it should: verification failed."""

    exit_code = 126
