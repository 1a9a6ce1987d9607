"""Who wants an address: the hosts of eligible entries, those that are seen side by side taken together.

Entries of one host share a lease, unless exportTo keeps them apart so that no namespace sees two of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Final, NamedTuple

from meshdns.resolver.source.entry import Address, Entry, Resolution, ServiceEntry, allows_lease
from meshdns.resolver.source.syntax import is_address

_LEASED: Final = frozenset({Resolution.STATIC, Resolution.DNS, Resolution.DNS_ROUND_ROBIN})
_PUBLIC: Final = "*"
_NOBODY: Final = "~"
_OWN: Final = "."


class Member(NamedTuple):
    """One entry that names the host. `status` is what Istio's controller gave it.

    `order` says who comes first: the older entry, those of unknown age last; then namespace, name and place in hosts.
    """

    entry: ServiceEntry
    status: tuple[Address, ...]
    order: tuple[float, str, str, int]

    @property
    def position(self) -> int:
        """The host's place in the entry's hosts."""
        return self.order[-1]


class Tenant(NamedTuple):
    """A host with the entries that share its lease, the first of them first."""

    host: str
    members: tuple[Member, ...]

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces of its entries, sorted, each once."""
        if len(self.members) == 1:
            return (self.members[0].entry.meta.namespace,)
        return tuple(sorted({member.entry.meta.namespace for member in self.members}))


def is_eligible(entry: ServiceEntry, *, answer_endpoints: bool = False) -> bool:
    """Return whether the entry's hosts are to have a lease; a wildcard among them has none all the same.

    `answer_endpoints`: a STATIC entry whose endpoints have IP addresses is answered with those instead.
    """
    if entry.resolution not in _LEASED or not allows_lease(entry.meta) or _NOBODY in entry.export_to:
        return False
    if not all(isinstance(item, Address) and item.is_unspecified for item in entry.addresses):
        return False
    return not (answer_endpoints and entry.resolution is Resolution.STATIC and _has_ip_endpoint(entry))


def _has_ip_endpoint(entry: ServiceEntry) -> bool:
    return any(is_address(endpoint.address) for endpoint in entry.endpoints)


def tenants(entries: Iterable[Entry], *, answer_endpoints: bool = False) -> list[Tenant]:
    """Return every host that is to have a lease, in the order in which new ones are served."""
    by_host: dict[str, list[Member]] = {}
    for entry in entries:
        if isinstance(entry, ServiceEntry) and is_eligible(entry, answer_endpoints=answer_endpoints):
            meta = entry.meta
            created = math.inf if meta.created is None else meta.created
            for position, host in enumerate(entry.hosts):
                if not host.startswith("*"):
                    status = entry.status_addresses.get(host, ())
                    order = (created, meta.namespace, meta.name, position)
                    by_host.setdefault(host, []).append(Member(entry, status, order))
    found = []
    for host, members in by_host.items():
        if len(members) == 1:
            found.append(Tenant(host, tuple(members)))
        else:
            found += [Tenant(host, tuple(sorted(group, key=attrgetter("order")))) for group in _seen_together(members)]
    return sorted(found, key=lambda tenant: (tenant.members[0].order, tenant.host))


def _seen_together(members: list[Member]) -> Iterator[list[Member]]:
    """Group members that stand in one namespace or that one namespace sees, directly or through others."""
    if any(_is_public(member.entry) for member in members):
        yield members
        return
    groups: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        links = list(_links(member.entry))
        merged = [member]
        for group in {id(groups[link]): groups[link] for link in links if link in groups}.values():
            smaller, merged = sorted((group, merged), key=len)
            merged += smaller
            for other in smaller:
                groups.update(dict.fromkeys(_links(other.entry), merged))
        groups.update(dict.fromkeys(links, merged))
    yield from {id(group): group for group in groups.values()}.values()


def _is_public(entry: ServiceEntry) -> bool:
    return not entry.export_to or _PUBLIC in entry.export_to


def _links(entry: ServiceEntry) -> Iterator[tuple[str, str]]:
    """Yield what makes two entries meet: the namespace they stand in, or one that sees both."""
    yield ("stands in", entry.meta.namespace)
    for written in entry.export_to:
        yield ("is seen in", entry.meta.namespace if written == _OWN else written)
