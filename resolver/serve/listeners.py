"""Opening the sockets that queries arrive on, or taking over those that systemd opened.

For each address one UDP and one TCP socket. What is read from them is not decided here.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from meshdns.resolver.errors import PreflightError
from meshdns.resolver.serve.address import SocketAddress
from meshdns.resolver.serve.datagram import RECEIVE_BUFFER_BYTES

TCP_BACKLOG: Final = 128
IPV6_LOOPBACK: Final = IPv6Address("::1")
FIRST_PASSED_FD: Final = 3
"""sd_listen_fds(3): passed descriptors start here."""


class Listener(NamedTuple):
    """An address that is listened on over UDP and TCP."""

    at: SocketAddress
    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        """Close both sockets."""
        self.udp.close()
        self.tcp.close()


class Opened(NamedTuple):
    """The listeners that could be had, and what to warn of: a missing ::1, an address that strangers reach."""

    listeners: tuple[Listener, ...]
    warnings: tuple[str, ...]


def open_listeners(addresses: Sequence[SocketAddress], passed: Mapping[tuple[int, str, int], int]) -> Opened:
    """Open every address, taking `passed` descriptors (see `passed_descriptors`) where they fit.

    A missing ::1, on a machine without IPv6, is a warning as long as another address can be had. Raises
    PreflightError for an address that does not exist, a port in use, or one that needs a privilege, and for a
    descriptor that fits no address: lookups that arrive there would be lost.
    """
    _refuse_unknown(addresses, passed)
    listeners: list[Listener] = []
    warnings: list[str] = []
    for at in addresses:
        try:
            listeners.append(_open(at, passed))
        except OSError as error:
            if at.address != IPV6_LOOPBACK or error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                for listener in listeners:
                    listener.close()
                raise PreflightError(_refusal(at, error)) from error
            warnings.append(f"cannot listen on {at}: this machine has no IPv6")
        else:
            if at.address.is_unspecified or at.address.is_global:
                warnings.append(f"whoever reaches {at} is answered: let a firewall say who may, or listen on loopback")
    if not listeners:
        raise PreflightError("; ".join(warnings))
    return Opened(tuple(listeners), tuple(warnings))


def passed_descriptors(environment: Mapping[str, str]) -> dict[tuple[int, str, int], int]:
    """Return the descriptors that systemd passed to us, by socket type, address and port (sd_listen_fds(3))."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or not environment.get("LISTEN_FDS", "").isdecimal():
        return {}
    passed: dict[tuple[int, str, int], int] = {}
    for descriptor in range(FIRST_PASSED_FD, FIRST_PASSED_FD + int(environment["LISTEN_FDS"])):
        try:
            found = socket.socket(fileno=descriptor)
        except OSError as error:
            raise PreflightError(f"cannot take over descriptor {descriptor} of LISTEN_FDS: {error.strerror}") from error
        if found.family in {socket.AF_INET, socket.AF_INET6}:
            host, port = found.getsockname()[:2]
            passed[found.type, host, port] = descriptor
        found.detach()  # it stays open for `open_listeners`
    return passed


def _refuse_unknown(addresses: Sequence[SocketAddress], passed: Mapping[tuple[int, str, int], int]) -> None:
    known = {(str(at.address), at.port) for at in addresses}
    for (_, host, port), descriptor in passed.items():
        if (host, port) not in known:
            at = SocketAddress(ip_address(host.partition("%")[0]), port)
            raise PreflightError(
                f"cannot use descriptor {descriptor} of LISTEN_FDS: it is bound to {at}, which no --listen names: "
                f"give --listen {at}, or take it out of the socket unit"
            )


def _open(at: SocketAddress, passed: Mapping[tuple[int, str, int], int]) -> Listener:
    udp = _socket(at, socket.SOCK_DGRAM, passed)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        tcp = _socket(at, socket.SOCK_STREAM, passed)
    except OSError:
        udp.close()
        raise
    return Listener(at, udp, tcp)


def _socket(at: SocketAddress, kind: socket.SocketKind, passed: Mapping[tuple[int, str, int], int]) -> socket.socket:
    if (descriptor := passed.get((kind, str(at.address), at.port))) is not None:
        made = socket.socket(fileno=descriptor)
        made.setblocking(False)
        return made
    family = socket.AF_INET6 if isinstance(at.address, IPv6Address) else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(at.address), at.port))
        if kind == socket.SOCK_STREAM:
            made.listen(TCP_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _refusal(at: SocketAddress, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on {at}: the port is in use: see `ss -lnptu 'sport = :{at.port}'`, or give another --listen"
        )
    if error.errno == errno.EACCES:
        return f"cannot listen on {at}: ports below 1024 need CAP_NET_BIND_SERVICE: give another --listen"
    return f"cannot listen on {at}: {error.strerror}"
