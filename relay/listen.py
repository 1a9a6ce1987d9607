"""The relay's listening sockets, and where a redirected client wanted to go.

Decides: which addresses may be missing, what an operator is told. Never here: what is done with a client. The original
destination is what conntrack remembers of the packet before it was redirected: getsockopt of level SOL_IP or SOL_IPV6,
linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h, the same number in both.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from meshdns.relay.address import Address, SocketAddress, socket_text
from meshdns.relay.errors import ListenError

SO_ORIGINAL_DST: Final = 80
SOCKADDR_IN_BYTES: Final = 16
SOCKADDR_IN6_BYTES: Final = 28

BACKLOG: Final = 4096
"""As many as net.core.somaxconn lets through by default since Linux 5.4."""

_ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_IPV6_LOOPBACK: Final = IPv6Address("::1")


def listen(addresses: Sequence[SocketAddress]) -> tuple[list[socket.socket], list[str]]:
    """Listen on all addresses; the warnings name those that are missing and may be. On a ListenError all are closed."""
    sockets: list[socket.socket] = []
    warnings: list[str] = []
    for address, port in addresses:
        try:
            sockets.append(_listener(address, port))
        except OSError as error:
            if address == _IPV6_LOOPBACK and error.errno in _ABSENT and len(addresses) > 1:
                warnings.append(_why_not(address, port, error))
                continue
            for sock in sockets:
                sock.close()
            raise ListenError(_why_not(address, port, error)) from error
    return sockets, warnings


def _listener(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        sock.bind((str(address), port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _why_not(address: Address, port: int, error: OSError) -> str:
    cause = str(error.strerror)
    if error.errno == errno.EADDRINUSE:
        cause = f"the port is in use: see `ss -lntp 'sport = :{port}'`, or give another --relay-listen, or --no-relay"
    return f"cannot listen on {socket_text(address, port)}: {cause}"


def own_address(sock: socket.socket) -> SocketAddress:
    """Give the address that a socket has on this machine."""
    host, port = sock.getsockname()[:2]
    return (IPv4Address(host) if sock.family == socket.AF_INET else IPv6Address(host.partition("%")[0])), port


def original_destination(client: socket.socket) -> SocketAddress | None:
    """Give where the client wanted to go; None when conntrack does not know."""
    try:
        if client.family == socket.AF_INET:
            found = client.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, SOCKADDR_IN_BYTES)
            port, packed = struct.unpack_from("!2xH4s", found)
            return IPv4Address(packed), port
        found = client.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, SOCKADDR_IN6_BYTES)
        port, packed = struct.unpack_from("!2xH4x16s", found)
        return IPv6Address(packed), port
    except (OSError, struct.error):
        return None
