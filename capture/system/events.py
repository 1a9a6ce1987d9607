"""Door: netlink sockets. The kernel's own word that somebody changed nf_tables in this namespace, and who (nft(8)).

Without pyroute2: its event sockets read ahead into a loop of their own, so that waiting for their descriptor misses
what they hold already; and of an event no more is needed than the name of the program that made it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from typing import Final, Self

from meshdns.capture.errors import PreflightError

NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NFNLGRP_NFTABLES: Final = 7
NEWGEN: Final = 10 << 8 | 15
"""NFNL_SUBSYS_NFTABLES and NFT_MSG_NEWGEN: a transaction has been carried out (linux/netfilter/nf_tables.h)."""
GEN_PROC_PID: Final = 2
GEN_PROC_NAME: Final = 3
RECEIVE_BYTES: Final = 65536
MESSAGE: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")
NFGENMSG_BYTES: Final = 4


class RuleEvents:
    """Readable when a transaction of nf_tables has been carried out; iptables-nft makes such as well."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        except OSError as error:
            self._socket.close()
            fix = ": CAP_NET_ADMIN is missing: run as root or grant it" if error.errno == errno.EPERM else ""
            raise PreflightError(f"cannot watch the rules: {error.strerror}{fix}") from error

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def drain(self) -> tuple[str, ...]:
        """Return who made the transactions since the last call, such as `nft (pid 17)`; never waits."""
        found: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    found += _makers(self._socket.recv(RECEIVE_BYTES))
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    found.append("somebody")  # more events than the socket holds: some are lost
        return tuple(dict.fromkeys(found))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _makers(data: bytes) -> Iterator[str]:
    offset = 0
    while offset + MESSAGE.size <= len(data):
        length, kind, *_ = MESSAGE.unpack_from(data, offset)
        if length < MESSAGE.size:
            return
        if kind == NEWGEN:
            attributes = dict(_attributes(data[offset + MESSAGE.size + NFGENMSG_BYTES : offset + length]))
            name = attributes.get(GEN_PROC_NAME, b"somebody").rstrip(b"\0").decode(errors="replace")
            pid = int.from_bytes(attributes.get(GEN_PROC_PID, b""), "big")
            yield f"{name} (pid {pid})"
        offset += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            return
        yield kind, data[offset + ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
