"""What a running resolver says about itself on its admin port. door: HTTP."""

from __future__ import annotations

import contextlib
import re
import time
import urllib.error
import urllib.request
from typing import Final

from bench.process import NotMeasuredError

SETTLED_S: Final = 1.5
"""A directory that has not been loaded again for so long is not going to be."""


def metric(port: int, name: str) -> float:
    """Return a metric without labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    found = re.search(rf"^{name}(?:_total)? (\S+)$", text, re.MULTILINE)
    if found is None:
        raise NotMeasuredError(f"/metrics does not show {name}")
    return float(found[1])


def ready(port: int, within_s: float = 60.0) -> None:
    """Wait until it is ready."""
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as reply,
        ):
            if reply.status == 200:
                return
        time.sleep(0.02)
    raise NotMeasuredError(f"the resolver is not ready after {within_s:g} s")


def reloaded(port: int, loads_before: float, within_s: float = 60.0) -> None:
    """Wait until it has loaded again, and has nothing more to load."""
    give_up = time.monotonic() + within_s
    loads, since = loads_before, time.monotonic()
    while time.monotonic() < give_up:
        now = metric(port, "meshdns_table_loads")
        if now != loads:
            loads, since = now, time.monotonic()
        if loads > loads_before and time.monotonic() - since > SETTLED_S:
            return
        time.sleep(0.05)
    raise NotMeasuredError(f"the resolver has not loaded again within {within_s:g} s")
