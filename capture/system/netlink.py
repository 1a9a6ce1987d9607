"""Door: pyroute2. What routing says of a destination, and what steers marked packets to this machine (ip-rule(8)).

Imported only where it is needed: it costs 190 ms and 24 MB.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from meshdns.capture.errors import ApplyError, CaptureError, PreflightError
from meshdns.capture.policy.spec import Address, Family
from meshdns.capture.system.steered import OWNER, PASS_THROUGH

RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
"""linux/rtnetlink.h: an address of this machine."""
RT_SCOPE_HOST: Final = 254
IFA_F_NODAD: Final = 2
LO: Final = 1
"""The loopback device has this number in every namespace (LOOPBACK_IFINDEX in include/net/net_namespace.h)."""
RULE_PRIORITY: Final = 133
"""Behind the table `local`, before `main` and what tools for containers put in front of it."""
WHOLE_MARK: Final = 0xFFFFFFFF
ADDRESS_METRIC: Final = 1337
"""Tells our address from one that somebody else added."""
_FAMILY: Final = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_FAMILY_OF: Final = {number: family for family, number in _FAMILY.items()}
_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.ENODEV}
    | {errno.EOPNOTSUPP, errno.EAFNOSUPPORT}  # a kernel without IPv6
)


@dataclass(frozen=True, slots=True)
class Route:
    """The way of a packet: by which interface, from which address, through which gateway if any."""

    interface: str
    source: Address | None
    gateway: Address | None
    local: bool


def routes(destinations: Iterable[Address]) -> dict[Address, Route | None]:
    """Return the route to each destination in this namespace, None where there is none; needs no privilege.

    PreflightError: netlink is out of reach.
    """
    with _opened("read the routes") as ip:
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()}
        return {destination: _route(ip, names, destination) for destination in dict.fromkeys(destinations)}


def _route(ip: IPRoute, names: dict[int, str], destination: Address) -> Route | None:
    try:
        (found,) = ip.route("get", dst=str(destination))
    except NetlinkError as error:
        if error.code in _NO_ROUTE:
            return None
        raise PreflightError(f"cannot read the route to {destination}: {os.strerror(error.code).lower()}") from error
    if found["type"] not in {RTN_UNICAST, RTN_LOCAL}:
        return None
    source, gateway = (found.get_attr(name) for name in ("RTA_PREFSRC", "RTA_GATEWAY"))
    return Route(
        interface=names.get(found.get_attr("RTA_OIF"), ""),
        source=ip_address(source) if source else None,
        gateway=ip_address(gateway) if gateway else None,
        local=found["type"] == RTN_LOCAL,
    )


@dataclass(frozen=True, slots=True)
class MarkRule:
    """Packets with `mark` are routed by `table`."""

    family: Family
    mark: int
    table: int

    def __str__(self) -> str:
        return f"{self.family.value} rule: fwmark {self.mark} lookup {self.table}"


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """Whatever `table` is asked for is an address of this machine."""

    family: Family
    table: int

    def __str__(self) -> str:
        return f"{self.family.value} route: local default dev lo table {self.table}"


@dataclass(frozen=True, slots=True)
class LoopbackAddress:
    """An IPv6 address of lo."""

    address: Address

    def __str__(self) -> str:
        return f"address {self.address}/128 on lo"


Steering = MarkRule | LocalRoute | LoopbackAddress


def steering() -> dict[Steering, bool]:
    """Return what steers in this namespace, and whether it is ours to remove."""
    with _opened("read the routes") as ip:
        # Where the same stands there twice, ours last: that one is to be removed.
        found: list[tuple[Steering, bool]] = [*_rules(ip), *_local_routes(ip), *_addresses(ip)]
        return dict(sorted(found, key=lambda one: one[1]))


def _rules(ip: IPRoute) -> Iterator[tuple[MarkRule, bool]]:
    for family, number in _FAMILY.items():
        for rule in ip.get_rules(family=number):
            owner, priority, mark = (rule.get_attr(f"FRA_{name}") for name in ("PROTOCOL", "PRIORITY", "FWMARK"))
            if priority == RULE_PRIORITY and mark and rule.get_attr("FRA_FWMASK") == WHOLE_MARK:
                yield MarkRule(family, mark, rule.get_attr("FRA_TABLE")), owner == OWNER


def _local_routes(ip: IPRoute) -> Iterator[tuple[LocalRoute, bool]]:
    """Yield somebody else's too, such as istio-iptables': it does what ours would, and the kernel takes no second."""
    for route in ip.route("dump", family=socket.AF_UNSPEC):
        if (route["type"], route["dst_len"]) == (RTN_LOCAL, 0):
            yield LocalRoute(_FAMILY_OF[route["family"]], route.get_attr("RTA_TABLE")), route["proto"] == OWNER


def _addresses(ip: IPRoute) -> Iterator[tuple[LoopbackAddress, bool]]:
    for found in ip.get_addr(family=socket.AF_INET6, index=LO):
        if found.get_attr("IFA_ADDRESS") == str(PASS_THROUGH):
            yield LoopbackAddress(PASS_THROUGH), found.get_attr("IFA_RT_PRIORITY") == ADDRESS_METRIC


def add_steering(one: Steering) -> None:
    """Put it there; no error where it is there already."""
    code = _change("add", one)
    if code not in {0, errno.EEXIST}:
        raise _error(f"cannot add the {one}", code)


def remove_steering(one: Steering) -> None:
    """Take it away; no error where it is gone already."""
    code = _change("del", one)
    if code not in {0, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL}:
        raise _error(f"cannot remove the {one}", code)


def _change(command: str, one: Steering) -> int:
    try:
        with _opened(f"change the {one}") as ip:
            match one:
                case MarkRule(family, mark, table):
                    known = {"priority": RULE_PRIORITY, "protocol": OWNER}
                    ip.rule(command, family=_FAMILY[family], fwmark=mark, table=table, **known)
                case LocalRoute(family, table):
                    local = {"type": "local", "dst": "default", "oif": LO, "scope": RT_SCOPE_HOST}
                    ip.route(command, family=_FAMILY[family], table=table, proto=OWNER, **local)
                case LoopbackAddress(address):
                    known = {"flags": IFA_F_NODAD, "rt_priority": ADDRESS_METRIC}
                    ip.addr(command, index=LO, address=str(address), prefixlen=128, family=socket.AF_INET6, **known)
    except NetlinkError as error:
        return int(error.code)
    return 0


@contextlib.contextmanager
def _opened(what: str) -> Iterator[IPRoute]:
    try:
        ip = IPRoute()
    except OSError as error:
        raise PreflightError(f"cannot {what}: netlink says: {error.strerror}") from error
    with ip:
        yield ip


def _error(what: str, code: int) -> CaptureError:
    if code == errno.EPERM:
        return PreflightError(f"{what}: CAP_NET_ADMIN is missing: run as root or grant it")
    return ApplyError(f"{what}: {os.strerror(code).lower()}")
