"""What `doctor` knows of a machine: values that `gather.py` fills and the checks judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshdns.capture.policy.spec import Address, CaptureSpec, Family, Network, Server
from meshdns.capture.prove.leaving import Way
from meshdns.capture.system.holders import Program
from meshdns.capture.system.listeners import Listener

FORWARDERS: Final = {
    "systemd-resolved": "/run/systemd/resolve/resolv.conf",
    "dnsmasq": "/run/dnsmasq/resolv.conf",
    "NetworkManager": "/run/NetworkManager/no-stub-resolv.conf",
}
"""The machine's own forwarders, and the file that says whom each asks."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What is installed here. `age_s`: for how long, in seconds, None where nobody knows."""

    spec: CaptureSpec
    alive: frozenset[Family]
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is installed, as far as it could be read."""

    installed: Installed | None = None
    """None: nothing, or `unseen` says why it cannot be known."""
    unseen: str = ""
    missing: str = ""
    """The program that is not here though the kernel holds rules of ours which only it shows."""
    package: str = ""
    """What to install for it."""
    drift: tuple[str, ...] = ()
    """How the rules differ from those that were installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameservers:
    """What became of reading a resolv.conf."""

    path: str
    trouble: str = ""
    """Why it cannot be read; empty where it can."""
    leads_to: str = ""
    """Where it is a link to what does not exist: that."""
    servers: tuple[Server, ...] = ()
    """Those that it lists, or else those that are asked instead."""
    lists_any: bool = True
    unusable: tuple[str, ...] = ()
    """What is wrong with lines that cannot be used, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the front end knows before anything is looked at."""

    standing: Standing = Standing()
    nameservers: Nameservers | None = None
    """None: no resolv.conf counts."""
    has_family: bool = True
    """Whether `--family auto` finds a family; where it does not, both are looked at."""
    readyz: str = "/readyz"
    """Where the resolver says whether it is ready, as curl takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was seen; a field that says None could not be looked at, and `unseen` says so in words."""

    known: Known = Known()
    uid: int
    capabilities: frozenset[str]
    kernel: tuple[int, ...]
    programs: Mapping[str, tuple[int, ...] | None]
    """Version of each program that is there; empty where it would not say."""
    oldest: Mapping[str, tuple[int, ...]]
    """The oldest version of each that does."""
    refused: str | None
    """What nft and the kernel said of our rules, empty where they took them."""
    chains: frozenset[str] | None
    """`table chain` of every chain in nf_tables, and every chain of the legacy tables."""
    legacy_rules: int | None
    nft_rules: int | None
    hosts_line: tuple[str, ...]
    """The `hosts` line of nsswitch.conf."""
    interfaces: frozenset[str]
    up: frozenset[str]
    """Those of the interfaces that are up."""
    addressed: frozenset[Family]
    """The families with an address besides loopback and link-local."""
    listeners: tuple[Listener, ...]
    programs_at: Mapping[tuple[str, int], tuple[Program, ...]]
    """Who holds the sockets at our ports, by protocol and port, as far as that may be seen."""
    ways: Mapping[Address, Way | None]
    """By which way packets to a nameserver or pool address leave, None where there is no route."""
    pool_routes: tuple[tuple[Network, str], ...]
    """What is in use here of the pools: routes to it other than the default one, and by which interface; none by lo.

    A route of a whole pool by no gateway, where no address of this machine is in there, is there for the leases."""
    forwarders: Mapping[str, tuple[Address, ...]]
    """Whom each of `FORWARDERS` that is here asks."""
    caches: frozenset[str]
    saved: Mapping[str, str]
    """Files that rules are loaded from when the machine starts, with what they hold."""
    ssh_ports: frozenset[int]
    unseen: tuple[str, ...]
