"""Door: netlink sockets. The kernel's own word that somebody changed in this namespace what we keep there.

Of nf_tables: that a transaction was carried out, and by whom (nft(8)). Of routing: that something was done to links,
addresses, local routes or rules (rtnetlink(7)).

Without pyroute2: its event sockets read ahead into a loop of their own, so that waiting for their descriptor misses
what they hold already; and of an event hardly more is needed than its kind.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from typing import Final, Self

from meshdns.capture.errors import PreflightError
from meshdns.capture.system import rawnetlink

SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NFNLGRP_NFTABLES: Final = 7
NEWGEN: Final = 10 << 8 | 15
"""NFNL_SUBSYS_NFTABLES and NFT_MSG_NEWGEN: a transaction has been carried out (linux/netfilter/nf_tables.h)."""
GEN_PROC_PID: Final = 2
GEN_PROC_NAME: Final = 3
NFGENMSG_BYTES: Final = 4

ROUTING_GROUPS: Final = (1, 7, 8, 9, 11, 19)
"""RTNLGRP_LINK, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE and IPV6_RULE (linux/rtnetlink.h)."""
NEW_LINK, NEW_ADDRESS, DELETE_ADDRESS, DELETE_ROUTE, DELETE_RULE = 16, 20, 21, 25, 33
ROUTE_TYPE_AT: Final = 7
"""Where struct rtmsg has its rtm_type."""
LOCAL: Final = 2

RECEIVE_BYTES: Final = 65536


class _Events:
    """A socket that is readable when the kernel has told something in one of its groups."""

    def __init__(self, what: str, protocol: int, *groups: int) -> None:
        try:
            self._socket = _member_of(protocol, groups)
        except OSError as error:
            fix = ": CAP_NET_ADMIN is missing: run as root or grant it" if error.errno == errno.EPERM else ""
            raise PreflightError(f"cannot watch {what}: {error.strerror}{fix}") from error

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def _messages(self) -> Iterator[tuple[int, bytes] | None]:
        """Yield kind and body of what has been told since the last call, None where some was lost; never waits."""
        while True:
            try:
                yield from rawnetlink.messages(self._socket.recv(RECEIVE_BYTES))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield None  # more events than the socket holds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _member_of(protocol: int, groups: Iterable[int]) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        made.bind((0, 0))
        for group in groups:
            made.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except OSError:
        made.close()
        raise
    return made


class RuleEvents(_Events):
    """Readable when a transaction of nf_tables has been carried out; iptables-nft makes such as well."""

    def __init__(self) -> None:
        super().__init__("the rules", rawnetlink.NETFILTER, NFNLGRP_NFTABLES)

    def drain(self) -> tuple[str, ...]:
        """Return who made the transactions since the last call, such as `nft (pid 17)`; never waits."""
        makers = (_maker(message) for message in self._messages())
        return tuple(dict.fromkeys(maker for maker in makers if maker))


class RoutingEvents(_Events):
    """Readable when something of routing has changed; other people's routes as well."""

    def __init__(self) -> None:
        super().__init__("routing", rawnetlink.ROUTE, *ROUTING_GROUPS)

    def drain(self) -> bool:
        """Return whether something of ours may have been lost, or be needed anew, since the last call; never waits."""
        told = list(self._messages())
        return any(message is None or _matters(*message) for message in told)


def _maker(message: tuple[int, bytes] | None) -> str | None:
    if message is None:
        return "somebody"
    kind, body = message
    if kind != NEWGEN:
        return None
    attributes = dict(rawnetlink.attributes(body[NFGENMSG_BYTES:]))
    name = attributes.get(GEN_PROC_NAME, b"somebody").rstrip(b"\0").decode(errors="replace")
    return f"{name} (pid {int.from_bytes(attributes.get(GEN_PROC_PID, b''), 'big')})"


def _matters(kind: int, body: bytes) -> bool:
    """Return whether it may be about what is ours: no unicast route is, and in a router those never rest."""
    if kind == DELETE_ROUTE:
        return body[ROUTE_TYPE_AT : ROUTE_TYPE_AT + 1] == bytes([LOCAL])
    return kind in {NEW_LINK, NEW_ADDRESS, DELETE_ADDRESS, DELETE_RULE}
