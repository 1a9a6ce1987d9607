"""Door: rtnetlink. Makes ::1 reachable by way of an interface, for sockets that are bound to it.

A socket connected to fe80::1%eth0 is bound to eth0 (ipv6(7)), and the kernel looks up every route of such a socket on
that interface alone. Redirected to ::1, which is on lo, its packets would find the default route or none, and be lost.
A local route to ::1 on eth0 brings them home. It lets nobody else in: what comes from outside for ::1 is dropped before
any route is asked (RFC 4291, section 2.5.3).

Ours are known by their metric. The kernel removes them when the link goes down, and nothing but `capture watch` or
another `install` brings them back. pyroute2 would cost 190 ms for one message.
"""

from __future__ import annotations

import errno
import os
import struct
from _socket import if_nametoindex
from ipaddress import IPv6Address
from typing import Final

from meshdns.capture.errors import ApplyError, PreflightError
from meshdns.capture.policy.spec import Address
from meshdns.capture.system import rawnetlink
from meshdns.capture.system.proc import net_lines

METRIC: Final = 1337
LOOPBACK: Final = IPv6Address("::1").packed

# linux/rtnetlink.h
_NEW_ROUTE: Final = 24
_DELETE_ROUTE: Final = 25
_IPV6: Final = 10
_TABLE_LOCAL: Final = 255
_PROTOCOL_STATIC: Final = 4
_SCOPE_HOST: Final = 254
_TYPE_LOCAL: Final = 2
_LOCAL_ROUTE: Final = struct.pack(
    "=BBBBBBBBI", _IPV6, 128, 0, 0, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_HOST, _TYPE_LOCAL, 0
)
_DESTINATION, _INTERFACE, _PRIORITY = 1, 4, 6


def reachable() -> frozenset[str]:
    """Return the interfaces by way of which ::1 is reachable because we made it so."""
    rows = _rows("ipv6_route")
    return frozenset(row[9] for row in rows if row[:2] == [LOOPBACK.hex(), "80"] and int(row[5], 16) == METRIC)


def with_ipv6() -> frozenset[str]:
    """Return the interfaces that are up and have an IPv6 address.

    An address may outlive its link (`keep_addr_on_down`); the routes that every interface with IPv6 has do not.
    """
    return frozenset(row[5] for row in _rows("if_inet6")) & frozenset(row[9] for row in _rows("ipv6_route"))


def holders(address: Address) -> frozenset[str]:
    """Return the interfaces that have an IPv6 address: a link-local one may stand on several (RFC 4007)."""
    return frozenset(row[5] for row in _rows("if_inet6") if row[0] == address.packed.hex())


def _rows(name: str) -> list[list[str]]:
    return [line.split() for line in net_lines(name)]


def make_reachable(interface: str) -> None:
    """Make ::1 reachable by way of an interface; one that has just gone, gone down or lost IPv6 is left."""
    code = _request(_NEW_ROUTE, rawnetlink.CREATE, interface)
    if code not in {0, errno.EEXIST, errno.ENODEV, errno.ENETDOWN, errno.EACCES}:
        raise _error(f"cannot make ::1 reachable by way of {interface}", code)


def forget(interface: str) -> None:
    """Undo `make_reachable`."""
    code = _request(_DELETE_ROUTE, 0, interface)
    if code not in {0, errno.ESRCH, errno.ENODEV}:
        raise _error(f"cannot remove the route to ::1 by way of {interface}", code)


def _error(what: str, code: int) -> ApplyError | PreflightError:
    if code == errno.EPERM:
        return PreflightError(f"{what}: CAP_NET_ADMIN is missing: run as root or grant it")
    return ApplyError(f"{what}: {os.strerror(code).lower()}")


def _request(kind: int, flags: int, interface: str) -> int:
    """Send one request about the route; returns the kernel's error number, 0 for none."""
    try:
        route = (
            _LOCAL_ROUTE
            + rawnetlink.attribute(_DESTINATION, LOOPBACK)
            + rawnetlink.attribute(_INTERFACE, struct.pack("=I", if_nametoindex(interface)))
            + rawnetlink.attribute(_PRIORITY, struct.pack("=I", METRIC))
        )
    except OSError:
        return errno.ENODEV
    try:
        rawnetlink.ask(rawnetlink.ROUTE, kind, flags, route)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
