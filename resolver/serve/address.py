"""Where to listen and whom to ask."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple


class SocketAddress(NamedTuple):
    """An address and a port, 1-65535; prints as 127.0.0.1:53 or [::1]:53."""

    address: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if isinstance(self.address, IPv6Address) else str(self.address)
        return f"{host}:{self.port}"
