"""What the relay counts: plain integers, read when somebody scrapes. Never here: exposition, names of metrics."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

CONNECT_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FAILURE_KEYS_MAX: Final = 1000
"""Pairs of host and reason that are counted apart; what comes later is counted under `OTHER_HOSTS`."""

OTHER_HOSTS: Final = "(other)"


class RelayCounters:
    """Counts since the start, but for `open`, which is how many connections there are.

    `sent_bytes` went to endpoints, `received_bytes` came from them. `connect_counts[i]` counts connects that took at
    most `CONNECT_BOUNDS_S[i]` seconds and more than the bound before; its last element counts the longer ones.
    """

    __slots__ = (
        "accept_pauses",
        "accepted",
        "connect_counts",
        "connect_sum_s",
        "failures",
        "idle",
        "not_redirected",
        "open",
        "passed_through",
        "probes",
        "received_bytes",
        "resets",
        "sent_bytes",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.open = 0
        self.not_redirected = 0
        self.passed_through = 0
        self.probes = 0
        self.resets = 0
        self.idle = 0
        self.accept_pauses = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.connect_sum_s = 0.0
        self.connect_counts = [0] * (len(CONNECT_BOUNDS_S) + 1)
        self.failures: dict[tuple[str, str], int] = {}

    def connected(self, seconds: float) -> None:
        """Count a connect that worked, by how long it took."""
        self.connect_sum_s += seconds
        self.connect_counts[bisect_left(CONNECT_BOUNDS_S, seconds)] += 1

    def failed(self, host: str, reason: str) -> None:
        """Count a connection that ended before it reached an endpoint."""
        key = (host, reason)
        if key not in self.failures and len(self.failures) >= FAILURE_KEYS_MAX:
            key = (OTHER_HOSTS, reason)
        self.failures[key] = self.failures.get(key, 0) + 1
