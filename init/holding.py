"""Imported before everything else: where `resolver run` starts, signals that it will act on do not end it meanwhile.

Most of a start is importing, and a unit may be reloaded at any time. `serve` lets them through when it can act on them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal


def hold() -> frozenset[signal.Signals]:
    """Hold them back from now on; returns which."""
    import signal  # noqa: PLC0415 - 0.6 ms, and every command imports this module

    held = frozenset({signal.SIGHUP, signal.SIGUSR1})
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    return held


if sys.argv[1:3] == ["resolver", "run"]:
    hold()
