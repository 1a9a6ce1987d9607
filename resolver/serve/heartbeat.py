"""The heartbeat: an empty datagram to our own DNS port, for as long as this process answers.

The kernel's rules redirect only while they have seen one within their timeout. So it must come from the loop that
answers, and stop as soon as we cannot answer: then applications reach the nameserver they asked. What the kernel makes
of it is not decided here.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class HeartbeatCounters:
    """Plain numbers; gaps are seconds between two beats of this loop, larger than the interval when it was held up."""

    sent = 0
    failed = 0
    withheld = 0
    last_gap_s = 0.0
    longest_gap_s = 0.0


class Heartbeat:
    """Beats towards each given listener every `interval_s` while `may_beat` says so.

    Make it after the process has its final uid: the rules look at the owner that the socket had when it was opened. The
    sockets stay unconnected, for an ICMP error would make a connected one skip a beat.
    """

    def __init__(
        self,
        listeners: Sequence[tuple[IPv4Address | IPv6Address, int]],
        interval_s: float,
        may_beat: Callable[[], bool],
    ) -> None:
        self.counters = HeartbeatCounters()
        self._interval_s = interval_s
        self._may_beat = may_beat
        self._targets = []
        for address, port in listeners:
            beat = socket.socket(
                _FAMILY[address.version], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            )
            self._targets.append((beat, (str(address), port)))
        self._last_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send the first beat now and go on until `stop`; call it from the running loop."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._last_s is not None:
            self.counters.last_gap_s = now - self._last_s
            self.counters.longest_gap_s = max(self.counters.longest_gap_s, self.counters.last_gap_s)
        self._last_s = now
        self._timer = loop.call_at(now + self._interval_s, self.start)
        self._beat()

    def stop(self) -> None:
        """Beat no more. The rules stop redirecting when their timeout has passed."""
        if self._timer is not None:
            self._timer.cancel()
        for beat, _ in self._targets:
            beat.close()
        self._targets = []

    def _beat(self) -> None:
        if not self._may_beat():
            self.counters.withheld += 1
            return
        for beat, target in self._targets:
            try:
                beat.sendto(b"", target)
                self.counters.sent += 1
            except OSError:
                # A full buffer or a firewall; the rules notice the missing beat, which is what it is for.
                self.counters.failed += 1
