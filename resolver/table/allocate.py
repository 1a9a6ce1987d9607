"""Which address each host without one gets."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address


@dataclass(frozen=True, slots=True)
class Lease:
    """The pair of pool addresses that stands for `host`, for the entries of `namespace` that name it.

    Entries of several namespaces that can be seen side by side share one pair: then each namespace has its row.
    """

    host: str
    namespace: str
    v4: IPv4Address
    v6: IPv6Address
