"""Does this machine speak IPv6 to anybody but itself? door: /proc/net.

A leased IPv6 address is worth answering only where an application would have a source address for it.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

_IF_INET6: Final = Path("/proc/net/if_inet6")
"""One line an address: address in hex, index, prefix length, scope, flags, interface (net/ipv6/addrconf.c)."""


def has_global_ipv6() -> bool:
    """Tell whether an interface other than lo has an IPv6 address that is not link-local."""
    try:
        lines = _IF_INET6.read_text().splitlines()
    except OSError:  # a kernel without IPv6
        return False
    for line in lines:
        address, *_, interface = line.split()
        if interface != "lo" and not IPv6Address(bytes.fromhex(address)).is_link_local:
            return True
    return False
