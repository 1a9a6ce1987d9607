"""Rules without a dialect: what a kernel is to do with packets, before anybody says it in nft or iptables.

A `Match` is one value with a field per question, so two rules that mean the same are equal. Lists inside a rule are in
normal form (sorted, merged, collapsed), because kernels give them back in an order of their own.
"""

from __future__ import annotations

import binascii
import enum
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Generic, TypeVar

from meshdns.capture.policy.spec import Family, Network, Ports
from meshdns.capture.values import dataclass

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

MAX_ID_LENGTH = 40
"""Leaves room in the 128 characters of an nft comment and keeps `status` in columns."""


class Hook(enum.Enum):
    """Where in its way a packet is looked at (netfilter's names)."""

    OUTPUT = "output"
    PREROUTING = "prerouting"
    INPUT = "input"


class Stage(enum.IntEnum):
    """What a chain is for; within a hook the lower stage sees the packet first."""

    ZONE = 1
    MARK = 2
    DIVERT = 3
    TRANSLATE = 4
    REFUSE = 5
    COUNT = 6


class Protocol(enum.Enum):
    """What stands above IP; everything that is neither is `OTHER` to us."""

    TCP = "tcp"
    UDP = "udp"
    OTHER = "other"


class ConnectionState(enum.Enum):
    """What conntrack says of the packet."""

    NEW = "new"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Selection(Generic[V_co]):
    """One of `values`, or with `negated` none of them. Never empty."""

    values: tuple[V_co, ...]
    negated: bool = False

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a selection needs a value")


def among(values: Iterable[V], *, negated: bool = False) -> Selection[V]:
    """Return the selection of these ids, names or marks, in normal form."""
    return Selection(tuple(sorted(set(values))), negated)  # type: ignore[type-var]


def among_ports(ports: Iterable[Ports], *, negated: bool = False) -> Selection[Ports]:
    """Return the selection of these ports; ranges that touch or overlap are one."""
    merged: list[Ports] = []
    for ports_now in sorted(ports, key=lambda each: each.first):
        if merged and ports_now.first <= merged[-1].last + 1:
            merged[-1] = Ports(merged[-1].first, max(merged[-1].last, ports_now.last))
        else:
            merged.append(ports_now)
    return Selection(tuple(merged), negated)


def among_networks(networks: Iterable[Network], *, negated: bool = False) -> Selection[Network]:
    """Return the selection of these networks, all of one family; what overlaps is collapsed."""
    found = list(networks)
    v4 = collapse_addresses(network for network in found if isinstance(network, IPv4Network))
    v6 = collapse_addresses(network for network in found if isinstance(network, IPv6Network))
    return Selection((*v4, *v6), negated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What must all be true of a packet; None, and False of a plain bool: that question is not asked."""

    family: Family | None = None
    in_interface: Selection[str] | None = None
    out_interface: Selection[str] | None = None
    uid: Selection[int] | None = None
    gid: Selection[int] | None = None
    mark: Selection[int] | None = None
    connection_mark: Selection[int] | None = None
    """Of the connection that it belongs to."""
    alive: bool | None = None
    """Whether a heartbeat of the packet's family was seen within the timeout."""
    source: Selection[Network] | None = None
    destination: Selection[Network] | None = None
    local: bool | None = None
    """Whether the destination is an address of this machine."""
    protocols: tuple[Protocol, ...] = ()
    """In the order of `Protocol`; empty: any. Ports may be asked for only where this says which protocols have them."""
    source_ports: Selection[Ports] | None = None
    destination_ports: Selection[Ports] | None = None
    udp_length: int | None = None
    """Bytes of UDP header and payload: 8 for an empty datagram."""
    syn: bool = False
    """It begins a TCP connection: SYN, and neither ACK, RST nor FIN."""
    transparent: bool = False
    """It belongs to a socket of this machine that stands for other addresses (IP_TRANSPARENT in ip(7))."""
    state: ConnectionState | None = None

    def __post_init__(self) -> None:
        if (self.source_ports or self.destination_ports) and self.protocols not in _WITH_PORTS:
            raise ValueError("ports need a protocol that has them")
        if (self.syn or self.transparent) and self.protocols != (Protocol.TCP,):
            raise ValueError("only TCP has connections")
        for networks in (self.source, self.destination):
            if networks and any(Family.of(network) is not self.family for network in networks.values):
                raise ValueError("addresses need their family")


_WITH_PORTS = ((Protocol.TCP,), (Protocol.UDP,), (Protocol.TCP, Protocol.UDP))


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """This chain does nothing more with the packet."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The packet goes to `port` of this machine: on loopback, or the interface it came in by."""

    port: int


@dataclass(frozen=True, slots=True)
class TransparentProxy:
    """The packet goes to the socket listening on `port`, addresses kept, marked so that routing keeps it here."""

    port: int
    mark: int


@dataclass(frozen=True, slots=True)
class SetZone:
    """The packet's flow is tracked in a conntrack zone of its own. The first such rule wins; evaluation goes on."""

    zone: int


@dataclass(frozen=True, slots=True)
class SetMark:
    """The packet is marked; evaluation goes on."""

    mark: int


@dataclass(frozen=True, slots=True)
class SetConnectionMark:
    """The packet's connection is marked, for what comes later and for what comes back; evaluation goes on."""

    mark: int


@dataclass(frozen=True, slots=True)
class Reset:
    """TCP only: refused at once, by a reset."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refused at once, by ICMP "port unreachable"; a local sender sees an error of its system call."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Gone without a word."""


@dataclass(frozen=True, slots=True)
class Beat:
    """The packet's family is alive for the next `timeout_s` seconds; evaluation goes on."""

    timeout_s: float


@dataclass(frozen=True, slots=True)
class Count:
    """Nothing but the rule's own counter."""


Action = (
    LeaveAlone
    | Redirect
    | TransparentProxy
    | SetZone
    | SetMark
    | SetConnectionMark
    | Reset
    | Refuse
    | Drop
    | Beat
    | Count
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, known by `id` in plans, errors and the kernel; `why` is for people and is not kept there."""

    id: str
    why: str
    match: Match
    action: Action

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= MAX_ID_LENGTH or not set(self.id) <= _ID_CHARACTERS:
            raise ValueError(f"not a rule id: {self.id!r}")


_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules for one hook and stage, looked at in order until one decides."""

    name: str
    hook: Hook
    stage: Stage
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All chains of an installation; a chain without rules is left out."""

    families: tuple[Family, ...]
    chains: tuple[Chain, ...]

    def __post_init__(self) -> None:
        ids = [rule.id for rule in self.rules()]
        if len(ids) != len(set(ids)):
            raise ValueError("two rules of one id")

    def rules(self) -> Iterator[Rule]:
        """Yield every rule, chain by chain."""
        for chain in self.chains:
            yield from chain.rules

    def fingerprint(self) -> str:
        """Return 8 hex digits that differ when anything but a `why` differs.

        A checksum: it tells the rules of one version from those of another and protects nobody from a false record.
        hashlib would load OpenSSL, which takes 3 ms.
        """
        checksum = 0
        for chain in self.chains:
            checksum = binascii.crc32(f"{chain.name} {chain.hook} {chain.stage}\n".encode(), checksum)
            for rule in chain.rules:
                checksum = binascii.crc32(f"{rule.id} {rule.match} {rule.action}\n".encode(), checksum)
        return f"{checksum:08x}"
