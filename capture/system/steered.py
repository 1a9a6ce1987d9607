"""Door: rtnetlink. Whether anything of ours may stand in routing, told without pyroute2, which costs 190 ms.

Every command that installs, removes or compares asks; hardly any of them finds something.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Final

from meshdns.capture.system.proc import net_lines

OWNER: Final = 133
"""Who made a rule or a route (rtm_protocol in rtnetlink(7)): nobody of /etc/iproute2/rt_protos has this number."""
PASS_THROUGH: Final = IPv6Address("::6")
"""An address of lo by which a proxy calls applications. IPv4 has all of 127.0.0.0/8 there, IPv6 has ::1 alone."""

# linux/rtnetlink.h, linux/netlink.h, linux/fib_rules.h
_GET_RULE: Final = 34
_REQUEST_AND_DUMP: Final = 0x1 | 0x300
_DONE: Final = 3
_FRA_PROTOCOL: Final = 21
_HEADER: Final = struct.Struct("=IHHII")
_RULE_BYTES: Final = 12
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVE_BYTES: Final = 1 << 16


def is_steered() -> bool:
    """Return whether a rule of ours, or the address that we may have added, is there."""
    return OWNER in _rule_owners() or _has_pass_through()


def _has_pass_through() -> bool:
    return any(line.startswith(PASS_THROUGH.packed.hex()) for line in net_lines("if_inet6"))


def _rule_owners() -> set[int]:
    request = struct.pack("=BBBBBBBBI", socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(request), _GET_RULE, _REQUEST_AND_DUMP, 1, 0)
    owners: set[int] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.send(header + request)
        while True:
            data = kernel.recv(_RECEIVE_BYTES)
            for kind, body in _messages(data):
                if kind <= _DONE:
                    return owners
                owners.update(value[0] for name, value in _attributes(body) if name == _FRA_PROTOCOL and value)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[max((length + 3) & ~3, _HEADER.size) :]


def _attributes(rule: bytes) -> Iterator[tuple[int, bytes]]:
    rest = rule[_RULE_BYTES:]
    while len(rest) >= _ATTRIBUTE.size:
        length, name = _ATTRIBUTE.unpack_from(rest)
        yield name, rest[_ATTRIBUTE.size : length]
        rest = rest[max((length + 3) & ~3, _ATTRIBUTE.size) :]
