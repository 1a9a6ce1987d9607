"""Which addresses of the pools manifests speak for: nobody else may be given one, in either family.

An address counts wherever it stands: as an entry's address or inside its CIDR block, as an endpoint, a cluster IP, or
as one that Istio's controller allocated.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from meshdns.resolver.source.entry import Address, EndpointSlice, Entry, Network, Service, ServiceEntry
from meshdns.resolver.source.syntax import address as parse_address
from meshdns.resolver.table.pools import Pools


class Claims:
    """A set of offsets, kept as disjoint ranges in order: a CIDR block may cover millions."""

    __slots__ = ("_starts", "ranges")

    def __init__(self, ranges: Iterable[range]) -> None:
        self.ranges: list[range] = []
        for found in sorted((item for item in ranges if item), key=lambda item: item.start):
            if self.ranges and found.start <= self.ranges[-1].stop:
                before = self.ranges[-1]
                self.ranges[-1] = range(before.start, max(before.stop, found.stop))
            else:
                self.ranges.append(found)
        self._starts = [found.start for found in self.ranges]

    def __contains__(self, offset: int) -> bool:
        return self.end_of(offset) is not None

    def end_of(self, offset: int) -> int | None:
        """Return the first offset after the claim that holds `offset`; None if it is free."""
        index = bisect_right(self._starts, offset) - 1
        if index >= 0 and offset < self.ranges[index].stop:
            return self.ranges[index].stop
        return None


def claims(entries: Iterable[Entry], pools: Pools) -> Claims:
    """Return what `entries` claim, but for status.addresses."""
    found = []
    for entry in entries:
        for claimed in _claimed(entry):
            if not isinstance(claimed, str):
                found.append(pools.offsets(claimed))
            elif pools.may_hold(claimed) and (address := parse_address(claimed)):
                found.append(pools.offsets(address))
    return Claims(found)


def status_claims(entries: Iterable[Entry], pools: Pools) -> Iterator[range]:
    """Yield what status.addresses of `entries` claim; the host itself may still have it."""
    for entry in entries:
        if isinstance(entry, ServiceEntry) and entry.status_addresses:
            for given in entry.status_addresses.values():
                yield from map(pools.offsets, given)


def _claimed(entry: Entry) -> Iterator[Address | Network | str]:
    """Yield what the entry claims; where a name may stand as well as an address, the text."""
    if isinstance(entry, ServiceEntry):
        yield from entry.addresses
        for endpoint in entry.endpoints:
            yield endpoint.address
    elif isinstance(entry, Service):
        yield from entry.cluster_ips
    elif isinstance(entry, EndpointSlice):
        for part in entry.endpoints:
            yield from part.addresses
    else:
        yield entry.endpoint.address
