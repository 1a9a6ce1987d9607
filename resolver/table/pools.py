"""The two ranges that leases come from, as one range of offsets: an offset stands for a pair of addresses.

Which offset goes to whom is `allocate`'s business; which are spoken for by manifests, `claims`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from meshdns.resolver.errors import SettingsError

Block = IPv4Address | IPv6Address | IPv4Network | IPv6Network

_OCTET: Final = 256
_TO_FIRST_OCTET: Final = 24
_SKIPPED_OCTETS: Final = frozenset({0, 255})
"""Many hosts take these for the network and broadcast addresses of a /24, and will not connect to them."""


@dataclass(frozen=True, slots=True)
class Pools:
    """The pools, paired: the address at an offset in `v4` and the one at the same offset in `v6` belong together.

    Raises SettingsError when `v6` is the smaller one, or when a pool is one that no connection can go to.
    """

    v4: IPv4Network
    v6: IPv6Network
    last: int = field(init=False, repr=False, compare=False)
    """The highest offset. It is the relay's probe address and never leased."""
    _base4: int = field(init=False, repr=False, compare=False)
    _base6: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.v6.num_addresses < self.v4.num_addresses:
            raise SettingsError(f"cannot pair the pools: {self.v6} holds fewer addresses than {self.v4}")
        for pool in (self.v4, self.v6):
            if pool.is_multicast or pool.is_loopback or pool.is_link_local:
                raise SettingsError(
                    f"cannot lease from {pool}: multicast, loopback and link-local addresses are not routed"
                )
        object.__setattr__(self, "last", self.v4.num_addresses - 1)
        object.__setattr__(self, "_base4", int(self.v4.network_address))
        object.__setattr__(self, "_base6", int(self.v6.network_address))

    def pair(self, offset: int) -> tuple[IPv4Address, IPv6Address]:
        """Return the two addresses at `offset`."""
        return IPv4Address(self._base4 + offset), IPv6Address(self._base6 + offset)

    def offsets(self, block: Block) -> range:
        """Return the offsets whose pair `block`, an address or a network, touches; empty if it lies outside."""
        base = self._base4 if block.version == self.v4.version else self._base6
        if isinstance(block, IPv4Network | IPv6Network):
            first, end = int(block.network_address) - base, int(block.broadcast_address) - base + 1
        else:
            first = int(block) - base
            end = first + 1
        return range(max(first, 0), min(end, self.last + 1))

    def may_lease(self, offset: int) -> bool:
        """Return whether the address at `offset` is one that can be leased at all."""
        return 0 <= offset < self.last and (self._base4 + offset) % _OCTET not in _SKIPPED_OCTETS

    def leasable(self, offsets: range) -> int:
        """Return how many of consecutive `offsets` can be leased, without counting them one by one."""
        stop = min(offsets.stop, self.last)
        return max(_plain_below(self._base4 + stop) - _plain_below(self._base4 + offsets.start), 0)

    def may_hold(self, text: str) -> bool:
        """Return False where an IPv4 address, as text, lies outside by its first octet: far cheaper than reading it."""
        first, dot, _ = text.partition(".")
        if not dot or not first.isdecimal():
            return True
        return self._base4 >> _TO_FIRST_OCTET <= int(first) <= (self._base4 + self.last) >> _TO_FIRST_OCTET


def _plain_below(number: int) -> int:
    """Return how many addresses below `number` end in neither 0 nor 255."""
    blocks, rest = divmod(number, _OCTET)
    return blocks * (_OCTET - len(_SKIPPED_OCTETS)) + min(max(rest - 1, 0), _OCTET - len(_SKIPPED_OCTETS))
