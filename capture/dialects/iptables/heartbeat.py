"""What the kernel remembers of heartbeats where iptables counts them: a list of xt_recent, one line for each family.

The list exists as long as a rule of ours names it, and outlives a replacement (xt_recent.c in net/netfilter).
"""

from __future__ import annotations

import re
from typing import Final

from meshdns.capture.policy.spec import Family
from meshdns.capture.values import dataclass

HEARTBEATS: Final = "meshdns"
"""The list that stands for nft's set `alive`; the kernel keeps the families in it apart."""

_BEAT: Final = r"(?m)^src=([0-9a-f.:]+) .*?last_seen: ([0-9]+)"


@dataclass(frozen=True, slots=True)
class Heartbeats:
    """The list as /proc shows it, and what time it is there, in the kernel's own ticks."""

    text: str
    now: float
    per_second: float

    def alive(self, timeout_s: float) -> frozenset[Family]:
        """Return the families whose last heartbeat is younger than the timeout."""
        return frozenset(
            Family.IPV6 if ":" in address else Family.IPV4
            for address, ticks in re.findall(_BEAT, self.text)
            if self.now - int(ticks) < timeout_s * self.per_second
        )
