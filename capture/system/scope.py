"""Door: rtnetlink. Makes ::1 reachable by way of an interface, for sockets that are bound to it.

A socket connected to fe80::1%eth0 is bound to eth0 (ipv6(7)), and the kernel looks up every route of such a socket on
that interface alone. Redirected to ::1, which is on lo, its packets would find the default route or none, and be lost.
A local route to ::1 on eth0 brings them home. It lets nobody else in: what comes from outside for ::1 is dropped before
any route is asked (RFC 4291, section 2.5.3).

Ours are known by their metric. The kernel removes them with the link; pyroute2 would cost 190 ms for one message.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Final

from meshdns.capture.errors import ApplyError, PreflightError
from meshdns.capture.system.proc import net_lines

METRIC: Final = 1337
LOOPBACK: Final = socket.inet_pton(socket.AF_INET6, "::1")

# linux/rtnetlink.h, linux/netlink.h
_NEW_ROUTE: Final = 24
_DELETE_ROUTE: Final = 25
_REQUEST_AND_ACK: Final = 0x1 | 0x4
_CREATE: Final = 0x400
_TABLE_LOCAL: Final = 255
_PROTOCOL_STATIC: Final = 4
_SCOPE_HOST: Final = 254
_TYPE_LOCAL: Final = 2
_DESTINATION, _INTERFACE, _PRIORITY = 1, 4, 6
_ERROR_BYTES: Final = 16 + 4


def reachable() -> frozenset[str]:
    """Return the interfaces by way of which ::1 is reachable because we made it so."""
    rows = _rows("ipv6_route")
    return frozenset(row[9] for row in rows if row[:2] == [LOOPBACK.hex(), "80"] and int(row[5], 16) == METRIC)


def with_ipv6() -> frozenset[str]:
    """Return the interfaces that have an IPv6 address."""
    return frozenset(row[5] for row in _rows("if_inet6"))


def _rows(name: str) -> list[list[str]]:
    return [line.split() for line in net_lines(name)]


def make_reachable(interface: str) -> None:
    """Make ::1 reachable by way of an interface; one that has just gone or gone down is left."""
    code = _request(_NEW_ROUTE, _CREATE, interface)
    if code not in {0, errno.EEXIST, errno.ENODEV, errno.ENETDOWN}:
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
        index = socket.if_nametoindex(interface)
    except OSError:
        return errno.ENODEV
    route = struct.pack(
        "=BBBBBBBBI", socket.AF_INET6, 128, 0, 0, _TABLE_LOCAL, _PROTOCOL_STATIC, _SCOPE_HOST, _TYPE_LOCAL, 0
    )
    for attribute, value in (
        (_DESTINATION, LOOPBACK),
        (_INTERFACE, struct.pack("=I", index)),
        (_PRIORITY, struct.pack("=I", METRIC)),
    ):
        route += struct.pack("=HH", 4 + len(value), attribute) + value
    header = struct.pack("=IHHII", 16 + len(route), kind, _REQUEST_AND_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.send(header + route)
        answer = kernel.recv(4096)
    (code,) = struct.unpack_from("=i", answer, 16) if len(answer) >= _ERROR_BYTES else (-errno.EIO,)
    return -int(code)
