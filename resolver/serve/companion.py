"""What a resolver asks of those who run in its loop beside it; it knows none of them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from meshdns.resolver.serve.metrics import Histogram, Metric
from meshdns.resolver.serve.upstream import Forwarder
from meshdns.resolver.table.live import Table


class Companion(Protocol):
    """What runs in the resolver's loop beside it and follows its table: the relay."""

    def open(self, forwarder: Forwarder) -> None:
        """Open sockets; raises an error with an exit code when that cannot be."""

    async def start(self) -> None:
        """Serve on them, in the running loop; until then clients wait in the kernel."""

    def follow(self, table: Table) -> None:
        """Take over what a new table says."""

    def metrics(self) -> Iterable[Metric | Histogram]:
        """Say what it counts."""

    def endpoints(self, address: IPv4Address | IPv6Address, port: int | None) -> list[dict[str, str]]:
        """Say what stands behind an address, each as `endpoint` and its `health`; without a port, behind any."""

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, let what is under way finish, and end after `timeout_s` at the latest."""
