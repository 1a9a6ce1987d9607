"""Imported before everything else: where `resolver run` starts, signals that it will act on do not end it meanwhile.

Most of a start is importing, and a unit may be reloaded at any time. `serve` lets them through when it can act on them.
"""

from __future__ import annotations

import signal
import sys
from typing import Final

HELD: Final = frozenset({signal.SIGHUP, signal.SIGUSR1})


def hold() -> None:
    """Hold them back from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


if sys.argv[1:3] == ["resolver", "run"]:
    hold()
