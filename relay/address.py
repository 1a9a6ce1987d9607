"""Addresses as everybody here has them, and as text. Nothing to import: sockets are opened long before all the rest."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address
SocketAddress = tuple[Address, int]


def socket_text(host: object, port: int) -> str:
    """`192.0.2.1:80`, `[2001:db8::1]:80` or `name:80`."""
    return f"[{host}]:{port}" if isinstance(host, IPv6Address) else f"{host}:{port}"
