"""Door: netlink(7) by hand, for the few questions that every installation asks; pyroute2 would cost 190 ms.

Nor does it import `socket`, which makes enumerations of hundreds of constants and brings `selectors`: 4 ms, as long as
one run of `nft`. `_socket` is the module that does its work.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from _socket import AF_NETLINK, NETLINK_ROUTE, SOCK_CLOEXEC, SOCK_RAW, socket
from collections.abc import Iterator
from typing import Final

ROUTE: Final = NETLINK_ROUTE
NETFILTER: Final = 12
"""linux/netlink.h, which `_socket` does not know whole"""
DUMP: Final = 0x300
CREATE: Final = 0x400

_REQUEST_AND_ACK: Final = 0x1 | 0x4
_ERROR: Final = 2
"""NLMSG_ERROR: its body begins with a negative errno, or with 0 to say that all is done."""
_DONE: Final = 3
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVE_BYTES: Final = 1 << 16


def ask(protocol: int, kind: int, flags: int, body: bytes) -> list[bytes]:
    """Send one request; returns the bodies of the answers. OSError: the kernel refused it, with the kernel's number."""
    bodies: list[bytes] = []
    with contextlib.closing(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)) as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_AND_ACK | flags, 1, 0) + body)
        while True:
            for kind_now, body_now in _answered(kernel.recv(_RECEIVE_BYTES)):
                if kind_now == _DONE:
                    return bodies
                if kind_now == _ERROR:
                    (code,) = struct.unpack_from("=i", body_now)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return bodies
                bodies.append(body_now)


def _answered(data: bytes) -> Iterator[tuple[int, bytes]]:
    if not data:
        raise OSError(errno.EIO, "the kernel gave an empty answer")
    return messages(data)


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and body of the messages that were received together."""
    for (_, kind, *_), body in _split(data, _HEADER):
        yield kind, body


def attribute(name: int, value: bytes) -> bytes:
    """Return an attribute, padded to where the next may begin."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), name) + value + b"\0" * (-len(value) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes that stand one behind the other: name and value."""
    for (_, name), value in _split(data, _ATTRIBUTE):
        yield name, value


def _split(data: bytes, header: struct.Struct) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Yield header and rest of what begins with its own length and is padded to four bytes."""
    while len(data) >= header.size:
        fields = header.unpack_from(data)
        yield fields, data[header.size : fields[0]]
        data = data[max((fields[0] + 3) & ~3, header.size) :]
