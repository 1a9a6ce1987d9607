"""What `doctor` knows of a machine: values that `gather.py` fills and `doctor.py` judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshdns.capture.policy.spec import Address, Network
from meshdns.capture.system.listeners import Listener

FORWARDERS: Final = {
    "systemd-resolved": "/run/systemd/resolve/resolv.conf",
    "dnsmasq": "/run/dnsmasq/resolv.conf",
    "NetworkManager": "/run/NetworkManager/no-stub-resolv.conf",
}
"""The machine's own forwarders, and the file that says whom each asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen; a field that says None could not be looked at, and `unseen` says so in words."""

    uid: int
    capabilities: frozenset[str]
    kernel: tuple[int, ...]
    programs: Mapping[str, tuple[int, ...] | None]
    """Version of each program that is there; empty where it would not say."""
    refused: str | None
    """What nft and the kernel said of our rules, empty where they took them."""
    chains: frozenset[str] | None
    """`table chain` of every chain in nf_tables, and every chain of the legacy tables."""
    legacy_rules: int | None
    nft_rules: int | None
    hosts_line: tuple[str, ...]
    """The `hosts` line of nsswitch.conf."""
    interfaces: frozenset[str]
    lo_up: bool
    listeners: tuple[Listener, ...]
    reachable: Mapping[Address, bool]
    """Whether there is a route to a nameserver or pool address."""
    pool_routes: tuple[tuple[Network, str], ...]
    """Routes other than the default one that lead to a pool, and by which interface."""
    forwarders: Mapping[str, tuple[Address, ...]]
    """Whom each of `FORWARDERS` that is here asks."""
    caches: frozenset[str]
    saved: Mapping[str, str]
    """Files that rules are loaded from when the machine starts, with what they hold."""
    ssh_ports: frozenset[int]
    unseen: tuple[str, ...]
