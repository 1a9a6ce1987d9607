"""What `resolver run` can be told, as one value that is checked when it is built."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from meshdns.resolver.errors import SettingsError
from meshdns.resolver.serve.listeners import SocketAddress


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings:
    """What a table depends on besides the manifests. `search` None: resolv.conf's."""

    manifests: tuple[Path, ...]
    namespace: str
    cluster_domain: str
    search: tuple[str, ...] | None
    state: Path | None
    auto_allocate: bool
    answer_endpoints: bool
    pool4: IPv4Network
    pool6: IPv6Network
    forward_other_types: bool
    ttl_s: int
    negative_ttl_s: int
    probe_suffix: str

    def __post_init__(self) -> None:
        """Refuse an IPv6 pool that cannot mirror the IPv4 pool address by address."""
        if self.pool6.num_addresses < self.pool4.num_addresses:
            raise SettingsError(
                f"cannot use pool {self.pool6} beside {self.pool4}: it is smaller: "
                f"give a --pool6 of at most /{128 - (32 - self.pool4.prefixlen)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardSettings:
    """Where names that are not ours are asked. `upstreams` stand instead of resolv.conf's nameservers."""

    resolv_conf: Path
    upstreams: tuple[SocketAddress, ...]
    zones: tuple[tuple[str, SocketAddress], ...]
    cache_entries: int
    stale_for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """All of it. `admin` None: no admin port. `heartbeat_interval_s` None: no heartbeat."""

    version: str
    listen: tuple[SocketAddress, ...]
    listen_optional: bool
    table: TableSettings
    forward: ForwardSettings
    before_loaded: BeforeLoaded
    lease_families: LeaseFamilies
    admin: SocketAddress | None
    heartbeat_interval_s: float | None
    heartbeat_timeout_s: float
    proxy_uid: int
    query_log: str | None
