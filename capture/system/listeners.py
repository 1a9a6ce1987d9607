"""Door: /proc/net and one ioctl. Who listens where in this namespace, and what addresses an interface has."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from meshdns.capture.policy.spec import Address
from meshdns.capture.system.proc import net_lines
from meshdns.capture.values import dataclass

TCP_LISTEN: Final = "0A"
"""include/net/tcp_states.h"""
SIOCGIFADDR: Final = 0x8915
_ADDRESS_IN_IFREQ: Final = slice(20, 24)
_COLUMNS: Final = 8


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits at a port, and whose it is."""

    protocol: str
    address: Address
    port: int
    uid: int

    def hears(self, address: Address) -> bool:
        """Return whether what is sent to `address` gets here; `::` hears IPv4 too, as by default."""
        if self.address.is_unspecified:
            return self.address.version >= address.version
        return self.address == address


def listeners() -> Iterator[Listener]:
    """Yield the sockets that wait for packets or connections."""
    for name in ("udp", "udp6", "tcp", "tcp6"):
        for line in net_lines(name)[1:]:
            words = line.split()
            if len(words) < _COLUMNS or (name.startswith("tcp") and words[3] != TCP_LISTEN):
                continue
            address, _, port = words[1].partition(":")
            yield Listener(name[:3], _hex_address(address), int(port, 16), int(words[7]))


def addresses_of(interface: str) -> tuple[Address, ...]:
    """Return where what enters by an interface goes when it is redirected: its first IPv4 address, any of IPv6."""
    v6 = (
        IPv6Address(bytes.fromhex(words[0]))
        for line in net_lines("if_inet6")
        if (words := line.split())[5] == interface and words[3] != _SCOPE_LINK
    )
    return (*_first_ipv4(interface), *v6)


_SCOPE_LINK: Final = "20"
"""IPV6_ADDR_LINKLOCAL in include/net/ipv6.h, as /proc/net/if_inet6 prints it."""


def _first_ipv4(interface: str) -> tuple[IPv4Address, ...]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as kernel:
        try:
            answer = fcntl.ioctl(kernel, SIOCGIFADDR, struct.pack("=16s24x", interface.encode()))
        except OSError:
            return ()  # no such interface, or none of IPv4
    return (IPv4Address(answer[_ADDRESS_IN_IFREQ]),)


def _hex_address(text: str) -> Address:
    """Read an address as /proc prints it: words of 32 bits in the machine's own order."""
    raw = b"".join(bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8))
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)  # noqa: PLR2004 - bytes of an IPv4 address
