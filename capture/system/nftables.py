"""Door: nfnetlink. Whether a table of nf_tables is there, asked of the kernel itself (linux/netfilter/nf_tables.h).

One message to the kernel instead of one run of `nft`: most installations find nothing to read, and where `nft` is gone
the kernel still knows what it has loaded.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from meshdns.capture.system import rawnetlink

_GET_TABLE: Final = 10 << 8 | 1
"""NFNL_SUBSYS_NFTABLES and NFT_MSG_GETTABLE."""
_INET: Final = struct.pack("=BBH", 1, 0, 0)
"""NFPROTO_INET, in the header that nfnetlink has of its own"""
_TABLE_NAME: Final = 1
"""NFTA_TABLE_NAME"""
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT})
"""No such table, no nf_tables in this kernel, no netfilter at all: in each case nothing of ours."""


def has_table(name: str) -> bool | None:
    """Return whether the table `inet NAME` is in this namespace; None where we may not ask."""
    named = rawnetlink.attribute(_TABLE_NAME, name.encode() + b"\0")
    try:
        rawnetlink.ask(rawnetlink.NETFILTER, _GET_TABLE, 0, _INET + named)
    except OSError as error:
        return False if error.errno in _NOT_THERE else None
    return True
