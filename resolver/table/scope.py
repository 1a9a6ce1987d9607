"""For whom a table is made, and what all its names share. Nothing here may import what only loading needs."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from meshdns.resolver.table.aliases import guarded_parents, search_keys
from meshdns.resolver.table.names import reverse_zones, to_key
from meshdns.resolver.table.records import soa
from meshdns.resolver.table.row import Common


class Scope(NamedTuple):
    """Whose table it is and what goes into every answer. `pools` are those of the leases."""

    namespace: str
    cluster_domain: str
    search: tuple[str, ...]
    pools: tuple[IPv4Network | IPv6Network, ...]
    ttl_s: int
    negative_ttl_s: int
    probe_suffix: str
    generation: int
    answer_endpoints: bool = False
    forward_other_types: bool = False


def common(scope: Scope) -> Common:
    """Return what all names share."""
    search = search_keys(scope.search)
    return Common(
        scope.generation,
        scope.ttl_s,
        soa(scope.generation, scope.negative_ttl_s),
        search,
        guarded_parents(scope.cluster_domain, search),
        tuple(zone for pool in scope.pools for zone in reverse_zones(pool)),
        to_key(scope.probe_suffix) or b"\x00",
    )
