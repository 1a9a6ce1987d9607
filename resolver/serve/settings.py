"""What `resolver run` can be told, as one value."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from meshdns.resolver.serve.address import SocketAddress
from meshdns.resolver.table.pools import Pools
from meshdns.resolver.table.scope import Scope


class BeforeLoaded(StrEnum):
    """What a query gets while no table has been loaded yet."""

    FORWARD = "forward"
    SERVFAIL = "servfail"


class LeaseFamilies(StrEnum):
    """Which families of leased addresses are answered. AUTO: IPv6 while a global IPv6 address exists outside lo."""

    AUTO = "auto"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    BOTH = "both"


class LineSink(Protocol):
    """Where lines of a log go without anybody waiting."""

    @property
    def dropped(self) -> int:
        """How many lines are lost."""

    def put(self, line: str) -> None:
        """Take a line without its end, or drop it."""


class TableSettings(NamedTuple):
    """What a table depends on besides the manifests. `search` None: resolv.conf's. `version` is the program's."""

    version: str
    manifests: tuple[Path, ...]
    namespace: str
    cluster_domain: str
    search: tuple[str, ...] | None
    state: Path | None
    auto_allocate: bool
    answer_endpoints: bool
    pools: Pools
    forward_other_types: bool
    ttl_s: int
    negative_ttl_s: int
    probe_suffix: str

    def scope(self, search: tuple[str, ...], generation: int) -> Scope:
        """Return what a table is built for."""
        return Scope(
            namespace=self.namespace,
            cluster_domain=self.cluster_domain,
            search=search,
            pools=(self.pools.v4, self.pools.v6),
            ttl_s=self.ttl_s,
            negative_ttl_s=self.negative_ttl_s,
            probe_suffix=self.probe_suffix,
            generation=generation,
            answer_endpoints=self.answer_endpoints,
            forward_other_types=self.forward_other_types,
        )


class ForwardSettings(NamedTuple):
    """Where names that are not ours are asked. `upstreams` stand instead of resolv.conf's nameservers."""

    resolv_conf: Path
    upstreams: tuple[SocketAddress, ...]
    zones: tuple[tuple[str, SocketAddress], ...]
    cache_entries: int
    stale_for_s: float


class ServeSettings(NamedTuple):
    """All of it. No `admin`: no admin port. No `heartbeat_interval_s`: no heartbeat. `query_log` takes lines."""

    version: str
    listen: tuple[SocketAddress, ...]
    table: TableSettings
    forward: ForwardSettings
    before_loaded: BeforeLoaded
    lease_families: LeaseFamilies
    admin: SocketAddress | None
    heartbeat_interval_s: float | None
    heartbeat_timeout_s: float
    proxy_uid: int
    query_log: LineSink | None
