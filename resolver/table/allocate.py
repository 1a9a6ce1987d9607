"""Which address each host without one gets: (entries, pools, what is held, now) -> leases. Pure.

A host keeps what it has; a new one gets the lowest free pair; what a host gives up rests before anyone else gets it.
Since every instance that reads the same manifests with the same past gives the same leases, the outcome depends on
nothing else: not on the order of entries, not on the namespace that is served, not on chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter
from typing import Final, NamedTuple

from meshdns.resolver.source import rules
from meshdns.resolver.source.entry import Entry
from meshdns.resolver.source.problem import Problem
from meshdns.resolver.table.claims import Claims, claims, status_claims
from meshdns.resolver.table.pools import Pools
from meshdns.resolver.table.tenants import Tenant, tenants
from meshdns.resolver.table.tenure import Tenure

REST_S: Final = 24 * 3600.0
"""How long a freed address belongs to nobody else: clients and their caches may still connect to it."""


class Lease(NamedTuple):
    """The pair of pool addresses that stands for `host`, for the entries of `namespace` that name it.

    Entries of several namespaces that can be seen side by side share one pair: then each namespace has its row.
    """

    host: str
    namespace: str
    v4: IPv4Address
    v6: IPv6Address


@dataclass(frozen=True, slots=True)
class Allocation:
    """The leases in order of age, what is held now (by offset), and the hosts that got nothing. Counts are of pairs."""

    leases: tuple[Lease, ...]
    tenures: tuple[Tenure, ...]
    problems: tuple[Problem, ...]
    used: int
    resting: int
    free: int


def allocate(
    entries: Sequence[Entry], pools: Pools, held: Iterable[Tenure], now: float, *, answer_endpoints: bool = False
) -> Allocation:
    """Give every host that is to have a lease its pair of addresses, or note that the pool is exhausted.

    `held`: what the last allocation or the ledger says; what does not fit the pools is passed over. `now`: wall clock.
    """
    wanting = tenants(entries, answer_endpoints=answer_endpoints)
    taken = _Holdings(pools, claims(entries, pools), held, now)
    offsets: dict[int, int] = {}  # by position in `wanting`
    _import_status(wanting, taken, offsets)
    taken.claimed = Claims((*taken.claimed.ranges, *status_claims(entries, pools)))
    _keep(wanting, taken, offsets)
    problems = list(_lease_new(wanting, taken, offsets))
    active = [
        Tenure(tenant.host, tenant.namespaces, offsets[position])
        for position, tenant in enumerate(wanting)
        if position in offsets
    ]
    resting = taken.resting()
    tenures = sorted((*active, *resting), key=attrgetter("offset"))
    return Allocation(
        tuple(_leases(wanting, offsets, pools)),
        tuple(tenures),
        tuple(problems),
        len(active),
        len(resting),
        taken.count_free(),
    )


class _Holdings:
    """Which offsets are in use, claimed or resting while an allocation is worked out."""

    def __init__(self, pools: Pools, claimed: Claims, held: Iterable[Tenure], now: float) -> None:
        self.pools = pools
        self.claimed = claimed
        self.used: set[int] = set()
        self.past: dict[int, Tenure] = {}
        self._now = now
        self._next = 0
        for tenure in held:
            current = _as_of(tenure, now)
            if current and pools.may_lease(tenure.offset):
                self.past.setdefault(tenure.offset, current)

    def is_open(self, offset: int) -> bool:
        """Return whether the pair can be used, leaving aside who had it before."""
        return offset not in self.used and offset not in self.claimed and self.pools.may_lease(offset)

    def lowest_free(self) -> int | None:
        """Return the lowest offset that is open and not resting. What was free once stays so until it is used."""
        while self._next < self.pools.last:
            end = self.claimed.end_of(self._next)
            if end is not None:
                self._next = end
            elif self._next in self.used or self._next in self.past or not self.pools.may_lease(self._next):
                self._next += 1
            else:
                return self._next
        return None

    def resting(self) -> list[Tenure]:
        """Return what somebody had and nobody uses now; what was in use until now rests from now on."""
        return [
            tenure if tenure.freed_at is not None else tenure._replace(freed_at=self._now)
            for offset, tenure in self.past.items()
            if offset not in self.used
        ]

    def count_free(self) -> int:
        everything = self.pools.leasable(range(self.pools.last))
        claimed = sum(self.pools.leasable(found) for found in self.claimed.ranges)
        return everything - claimed - sum(offset not in self.claimed for offset in self.used | self.past.keys())


def _as_of(tenure: Tenure, now: float) -> Tenure | None:
    """Return the tenure as it stands now; None when its rest is over.

    A time in the future means a clock that was set back: the rest begins anew, so that it is neither cut nor endless.
    """
    if tenure.freed_at is None:
        return tenure
    if tenure.freed_at > now:
        return tenure._replace(freed_at=now)
    return tenure if now - tenure.freed_at < REST_S else None


def _import_status(wanting: list[Tenant], taken: _Holdings, offsets: dict[int, int]) -> None:
    """Let hosts hold what status.addresses gives them, as far as it is a pair of the pools; the first of two wins."""
    for position, tenant in enumerate(wanting):
        given = [taken.pools.offsets(address) for member in tenant.members for address in member.status]
        inside = {found.start for found in given if found}
        if len(inside) == 1 and taken.is_open(offset := inside.pop()):
            offsets[position] = offset
            taken.used.add(offset)


def _keep(wanting: list[Tenant], taken: _Holdings, offsets: dict[int, int]) -> None:
    """Let hosts keep, or take up again, what they had: first in the same namespaces, then in whichever."""
    past: dict[str, list[Tenure]] = {}
    for tenure in sorted(taken.past.values(), key=lambda tenure: (tenure.freed_at is not None, tenure.offset)):
        past.setdefault(tenure.host, []).append(tenure)
    for same_namespace in (True, False):
        for position, tenant in enumerate(wanting):
            if position in offsets or tenant.host not in past or not _wants(tenant):
                continue
            for tenure in past[tenant.host]:
                fits = not same_namespace or not set(tenure.namespaces).isdisjoint(tenant.namespaces)
                if fits and taken.is_open(tenure.offset):
                    offsets[position] = tenure.offset
                    taken.used.add(tenure.offset)
                    break


def _wants(tenant: Tenant) -> bool:
    """Return whether any of its entries has no address from status."""
    return any(not member.status for member in tenant.members)


def _lease_new(wanting: list[Tenant], taken: _Holdings, offsets: dict[int, int]) -> Iterator[Problem]:
    for position, tenant in enumerate(wanting):
        if position in offsets or not _wants(tenant):
            continue
        offset = taken.lowest_free()
        if offset is None:
            yield from _exhausted(tenant, taken.pools)
        else:
            offsets[position] = offset
            taken.used.add(offset)


def _exhausted(tenant: Tenant, pools: Pools) -> Iterator[Problem]:
    rule = rules.LEASE_EXHAUSTED
    for member in tenant.members:
        origin = member.entry.meta.origin
        reason = f"cannot lease an address for {tenant.host}: {pools.v4} is exhausted"
        yield Problem(origin.file, origin.line, f"spec.hosts[{member.position}]", rule.id, rule.level, reason, rule.fix)


def _leases(wanting: list[Tenant], offsets: dict[int, int], pools: Pools) -> Iterator[Lease]:
    for position, tenant in enumerate(wanting):
        if position in offsets:
            v4, v6 = pools.pair(offsets[position])
            for namespace in {member.entry.meta.namespace: None for member in tenant.members if not member.status}:
                yield Lease(tenant.host, namespace, v4, v6)
