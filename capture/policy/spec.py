"""What the operator wants captured: one frozen value that cannot contradict itself.

Numbers, addresses and names only: users, groups, `auto`, `resolv-conf` and files are resolved by the caller. Nothing
here says how a packet is treated; that is `plan.py`, and only there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from meshdns.capture.errors import SpecError
from meshdns.capture.values import dataclass

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_PORT = 65535
MAX_ID = 2**32 - 2
"""The kernel keeps 2**32-1 for "no such id"."""
MAX_MARK = 2**32 - 1
KERNEL_TABLES = range(253, 256)
"""default, main and local (linux/rtnetlink.h)."""
MAX_INTERFACE_BYTES = 15
"""IFNAMSIZ less the closing zero byte (linux/if.h)."""
MIN_HEARTBEAT_TIMEOUT_S = 0.1
"""Kernels count set timeouts in jiffies, at worst of 10 ms; a timeout that rounds to 0 would never end."""
SAFE_HEARTBEAT_TIMEOUT_S = 1.0
MAX_HEARTBEAT_TIMEOUT_S = 7 * 24 * 3600


class Family(enum.Enum):
    """An IP version, by the name nft gives it."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @classmethod
    def of(cls, value: Address | Network) -> Family:
        """Return the family of an address or a network."""
        return cls.IPV4 if isinstance(value, IPv4Address | IPv4Network) else cls.IPV6


def as_sent(address: Address) -> Address:
    """Return the address that packets go to when a program names this one.

    The unspecified one means this machine; an IPv4-mapped one is IPv4 on the wire (RFC 4291, section 2.5.5.2).
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return IPv6Address("::1") if address.is_unspecified else address
        address = address.ipv4_mapped
    return IPv4Address("127.0.0.1") if address.is_unspecified else address


class OnResolverDown(enum.Enum):
    """What becomes of a captured lookup while no heartbeat is seen."""

    OPEN = "open"
    CLOSED = "closed"


class PoolRest(enum.Enum):
    """What becomes of a packet to a pool address that is not captured."""

    REJECT = "reject"
    DIRECT = "direct"


class InboundMode(enum.Enum):
    """How inbound TCP reaches the operator's proxy."""

    REDIRECT = "redirect"
    TPROXY = "tproxy"


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports from `first` to `last`, both included, 1-65535."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= MAX_PORT:
            raise SpecError(
                f"cannot use ports {self.first}-{self.last}: give a range within 1-{MAX_PORT}, lowest first"
            )

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


ALL_PORTS = Ports(1, MAX_PORT)


@dataclass(frozen=True, slots=True)
class Server:
    """Destinations whose port 53 is captured: one nameserver, or with a shorter prefix all addresses of a network.

    `interface` limits it to packets that leave there: what `%zone` in resolv.conf means.
    """

    network: Network
    interface: str | None = None

    @classmethod
    def at(cls, address: Address, interface: str | None = None) -> Server:
        """Return the server that lookups at an address are sent to."""
        return cls(ip_network(as_sent(address)), interface)

    def __str__(self) -> str:
        single = self.network.prefixlen == self.network.max_prefixlen
        address = str(self.network.network_address) if single else str(self.network)
        return f"{address}%{self.interface}" if self.interface else address


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSpec:
    """Every choice of an installation. Marks, ids and ports are host-order numbers; empty tuples mean none."""

    families: tuple[Family, ...]
    proxy_uids: tuple[int, ...]
    proxy_gids: tuple[int, ...] = ()
    proxy_mark: int | None = None

    dns: bool = True
    dns_port: int
    dns_servers: tuple[Server, ...]
    resolv_conf: str | None = None
    """The file that `dns_servers` were read from; None where they were listed."""
    named_servers: tuple[Server, ...] | None = None
    """Those that were asked for by address, besides what `resolv_conf` listed: they stay when that changes.

    None without such a file, and where nobody recorded it.
    """
    on_resolver_down: OnResolverDown = OnResolverDown.OPEN
    heartbeat_timeout_s: float
    heartbeat_mark: int
    ct_zone: int

    outbound_port: int
    outbound_cidrs: tuple[Network, ...]
    outbound_ports: tuple[Ports, ...] = ()
    exclude_outbound_cidrs: tuple[Network, ...] = ()
    exclude_outbound_ports: tuple[Ports, ...] = ()
    pools: tuple[Network, ...]
    pool_rest: PoolRest = PoolRest.REJECT

    owner_groups: tuple[int, ...] | None = None
    """None: everybody's traffic is captured."""
    exclude_owner_groups: tuple[int, ...] = ()
    exclude_uids: tuple[int, ...] = ()

    inbound_ports: tuple[Ports, ...] = ()
    exclude_inbound_ports: tuple[Ports, ...] = ()
    inbound_port: int
    inbound_mode: InboundMode = InboundMode.REDIRECT
    tunnel_port: int
    tproxy_mark: int
    tproxy_table: int

    exclude_interfaces: tuple[str, ...] = ()
    virtual_interfaces: tuple[str, ...] = ()
    drop_invalid: bool = False

    def __post_init__(self) -> None:
        _check_identities(self)
        _check_numbers(self)
        _check_interfaces(self)
        _check_contradictions(self)

    @property
    def tproxy(self) -> bool:
        """Return whether inbound TCP is handed over by TPROXY."""
        return self.inbound_mode is InboundMode.TPROXY and bool(self.inbound_ports)

    def warnings(self) -> tuple[str, ...]:
        """Return what is allowed but will surprise, one line each."""
        found = []
        missing = [pool for pool in self.pools if Family.of(pool) in self.families and not self._includes(pool)]
        if missing:
            found.append(f"leases lead nowhere: --outbound-cidr does not contain the pool {_listed(missing)}")
        dropped = [server for server in self.dns_servers if Family.of(server.network) not in self.families]
        if self.dns and dropped:
            found.append(f"not captured, because --family leaves their family out: nameserver {_listed(dropped)}")
        if self.dns and not self.dns_servers:
            found.append("no lookup is captured: there is no nameserver to capture")
        if self.heartbeat_timeout_s < SAFE_HEARTBEAT_TIMEOUT_S:
            found.append(
                f"--heartbeat-timeout {self.heartbeat_timeout_s}: one late heartbeat closes the redirect, and a ruleset"
                " that nft saved has whole seconds only"
            )
        if self.exclude_inbound_ports and not self.inbound_ports:
            found.append("--exclude-inbound-ports changes nothing without --inbound-ports")
        if self.inbound_mode is InboundMode.TPROXY and not self.inbound_ports:
            found.append("--inbound-mode tproxy changes nothing without --inbound-ports")
        return tuple(found)

    def _includes(self, network: Network) -> bool:
        return any(
            network.prefixlen >= cidr.prefixlen and network.network_address in cidr for cidr in self.outbound_cidrs
        )


def _check_identities(spec: CaptureSpec) -> None:
    if not spec.families:
        raise SpecError("cannot capture anything: no address family is chosen: give --family ipv4, ipv6 or both")
    if not spec.proxy_uids:
        raise SpecError("cannot do without a --proxy-uid: the heartbeat is known by its user")
    for option, ids in (
        ("--proxy-uid", spec.proxy_uids),
        ("--proxy-gid", spec.proxy_gids),
        ("--owner-group", spec.owner_groups or ()),
        ("--exclude-owner-group", spec.exclude_owner_groups),
        ("--exclude-uid", spec.exclude_uids),
    ):
        for number in ids:
            _check_range(option, number, 0, MAX_ID)
    if spec.owner_groups is not None and not spec.owner_groups:
        raise SpecError("cannot use an empty --owner-group: leave it out to capture everybody's traffic")


def _check_numbers(spec: CaptureSpec) -> None:
    for option, port in (
        ("--dns-port", spec.dns_port),
        ("--outbound-port", spec.outbound_port),
        ("--inbound-port", spec.inbound_port),
        ("--tunnel-port", spec.tunnel_port),
    ):
        _check_range(option, port, 1, MAX_PORT)
    for option, mark in (
        ("--proxy-mark", spec.proxy_mark),
        ("--tproxy-mark", spec.tproxy_mark),
        ("heartbeat mark", spec.heartbeat_mark),
    ):
        if mark is not None:
            _check_range(option, mark, 1, MAX_MARK)  # 0 is what every packet has that nobody marked
    _check_range("--tproxy-table", spec.tproxy_table, 1, MAX_MARK)
    if spec.tproxy_table in KERNEL_TABLES:
        raise SpecError(
            f"cannot use --tproxy-table {spec.tproxy_table}: everything else is routed by it: give another number"
        )
    _check_range("conntrack zone", spec.ct_zone, 1, MAX_PORT)
    _check_range("--heartbeat-timeout", spec.heartbeat_timeout_s, MIN_HEARTBEAT_TIMEOUT_S, MAX_HEARTBEAT_TIMEOUT_S)


def _check_interfaces(spec: CaptureSpec) -> None:
    scopes = tuple(server.interface for server in spec.dns_servers if server.interface is not None)
    for option, names in (
        ("--exclude-interface", spec.exclude_interfaces),
        ("--virtual-interface", spec.virtual_interfaces),
        ("--dns-servers", scopes),
    ):
        for name in names:
            _check_interface(option, name)
    both = set(spec.exclude_interfaces) & set(spec.virtual_interfaces)
    if both:
        raise SpecError(
            f"cannot have {_listed(sorted(both))} in --exclude-interface and --virtual-interface: choose one"
        )


def _check_interface(option: str, name: str) -> None:
    # dev_valid_name in net/core/dev.c; beyond it, quotes would end a string in a rule, and kernels' tools read a
    # closing '*' or '+' as "and all that start so".
    if not name or len(name) > MAX_INTERFACE_BYTES or not name.isascii() or name in {".", ".."}:
        raise SpecError(
            f"cannot use {option} {name!r}: an interface name has 1 to {MAX_INTERFACE_BYTES} ASCII characters"
        )
    if any(not character.isprintable() or character in ' /:"\\' for character in name) or name[-1] in "*+":
        raise SpecError(
            f"cannot use {option} {name!r}: no space, '/', ':', quote or backslash, and no '*' or '+' at its end"
        )


def _check_contradictions(spec: CaptureSpec) -> None:
    ports = [("--dns-port", spec.dns_port), ("--outbound-port", spec.outbound_port)]
    if spec.inbound_ports:
        ports += [("--inbound-port", spec.inbound_port), ("--tunnel-port", spec.tunnel_port)]
    for position, (option, port) in enumerate(ports):
        for other, same in ports[:position]:
            if port == same:
                raise SpecError(f"cannot use {option} {port}: {other} is {port} as well, and one port has one listener")
    if spec.tproxy and spec.proxy_mark == spec.tproxy_mark:
        raise SpecError(
            f"cannot use --proxy-mark {spec.proxy_mark}: --tproxy-mark is {spec.tproxy_mark} as well, and what bears"
            " that never leaves this machine"
        )
    for port_range in spec.outbound_ports:
        if any(port_range.first <= out.last and out.first <= port_range.last for out in spec.exclude_outbound_ports):
            raise SpecError(f"cannot use --outbound-ports {port_range}: --exclude-outbound-ports excludes it")
    both = set(spec.owner_groups or ()) & set(spec.exclude_owner_groups)
    if both:
        raise SpecError(
            f"cannot have group {_listed(sorted(both))} in --owner-group and --exclude-owner-group: choose one"
        )


def _check_range(option: str, number: float, least: float, most: float) -> None:
    if not least <= number <= most:
        raise SpecError(f"cannot use {option} {number}: give a number from {least} to {most}")


def _listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)
