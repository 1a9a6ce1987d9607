"""What the relay cannot go on after, each with the exit code of the command that meets it."""

from __future__ import annotations

from typing import ClassVar


class RelayError(Exception):
    """Base of every error that the relay raises on purpose; its text is one line for the operator."""

    exit_code: ClassVar[int]


class ListenError(RelayError):
    """The relay's address cannot be listened on."""

    exit_code = 3
