"""What capture cannot go on after, each with the exit code of the command that meets it."""

from __future__ import annotations

from typing import ClassVar


class CaptureError(Exception):
    """Base of every error that capture raises on purpose; its text is one line for the operator."""

    exit_code: ClassVar[int]


class SpecError(CaptureError):
    """A CaptureSpec that contradicts itself or names what does not exist."""

    exit_code = 2


class PreflightError(CaptureError):
    """Missing privilege, program or kernel feature: nothing was tried, nothing changed."""

    exit_code = 3


class ApplyError(CaptureError):
    """The kernel refused the rules or holds other ones than asked for; what was there before is there again."""

    exit_code = 4


class LeftoverError(CaptureError):
    """The new rules are in, verified, and older ones of another backend could not be removed: packets meet both."""

    exit_code = 4


class ConfirmError(CaptureError):
    """There is nothing to confirm, or it has been undone already; nothing was changed."""

    exit_code = 4


class RollbackError(CaptureError):
    """Undoing a failed change failed too; the text says what is left behind."""

    exit_code = 5


class VerificationError(CaptureError):
    """Packets did not go where the rules send them."""

    exit_code = 126
