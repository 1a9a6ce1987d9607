"""Imported before everything else: as long as Python imports, it does not look for garbage, of which there is none.

Looking for it would take a tenth of the time until a command runs.
"""

from __future__ import annotations

import gc


def begun() -> None:
    """Look for no garbage until it is `finished`."""
    gc.disable()


def finished() -> None:
    """Look for garbage from now on, among what comes from now on: what was imported stays as long as the process."""
    gc.freeze()
    gc.enable()


begun()
