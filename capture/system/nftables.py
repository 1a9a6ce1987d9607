"""Door: nfnetlink. Whether a table of nf_tables is there, asked of the kernel itself (linux/netfilter/nf_tables.h).

One message to the kernel instead of one run of `nft`: most installations find nothing to read, and where `nft` is gone
the kernel still knows what it has loaded.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

_NETLINK_NETFILTER: Final = 12
_GET_TABLE: Final = 10 << 8 | 1
"""NFNL_SUBSYS_NFTABLES and NFT_MSG_GETTABLE."""
_ERROR: Final = 2
"""NLMSG_ERROR (linux/netlink.h): its body begins with a negative errno."""
_REQUEST: Final = 1
_INET: Final = 1
"""NFPROTO_INET"""
_TABLE_NAME: Final = 1
"""NFTA_TABLE_NAME"""
_HEADER: Final = struct.Struct("=IHHII")
_RECEIVE_BYTES: Final = 4096
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT})
"""No such table, no nf_tables in this kernel, no netfilter at all: in each case nothing of ours."""


def has_table(name: str) -> bool | None:
    """Return whether the table `inet NAME` is in this namespace; None where we may not ask."""
    code = _ask(name)
    if code == 0:
        return True
    return False if code in _NOT_THERE else None


def _ask(name: str) -> int:
    """Ask for the table; return the kernel's error number, 0 where it is there."""
    value = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(value), _TABLE_NAME) + value + b"\0" * (-len(value) % 4)
    body = struct.pack("=BBH", _INET, 0, 0) + attribute
    request = _HEADER.pack(_HEADER.size + len(body), _GET_TABLE, _REQUEST, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
            kernel.send(request)
            answer = kernel.recv(_RECEIVE_BYTES)
    except OSError as error:
        return error.errno or errno.EIO
    _, kind, *_ = _HEADER.unpack_from(answer)
    return -int(struct.unpack_from("=i", answer, _HEADER.size)[0]) if kind == _ERROR else 0
