"""What the resolver cannot go on after, each with the exit code of the command that meets it.

Bad packets and bad manifests are not here: they are values (a FORMERR reply, a `Problem`), for serving goes on.
"""

from __future__ import annotations

from typing import ClassVar


class ResolverError(Exception):
    """Base of every error that the resolver raises on purpose; its text is one line for the operator."""

    exit_code: ClassVar[int]


class SettingsError(ResolverError):
    """Settings that contradict each other, such as pools of leases that cannot be paired."""

    exit_code = 2


class PreflightError(ResolverError):
    """A port in use, an unreadable resolv.conf or manifests directory, the wrong uid, no running resolver to ask."""

    exit_code = 3
