"""Door: pyroute2. What routing says of a destination. Imported only where it is needed: it costs 190 ms and 24 MB."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from meshdns.capture.policy.spec import Address

RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
"""linux/rtnetlink.h: an address of this machine."""
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.ENODEV})


@dataclass(frozen=True, slots=True)
class Route:
    """The way of a packet: by which interface, from which address, through which gateway if any."""

    interface: str
    source: Address | None
    gateway: Address | None
    local: bool


def routes(destinations: Iterable[Address]) -> dict[Address, Route | None]:
    """Return the route to each destination in this namespace, None where there is none; needs no privilege."""
    with IPRoute() as ip:
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()}
        return {destination: _route(ip, names, destination) for destination in dict.fromkeys(destinations)}


def _route(ip: IPRoute, names: dict[int, str], destination: Address) -> Route | None:
    try:
        (found,) = ip.route("get", dst=str(destination))
    except NetlinkError as error:
        if error.code in _NO_ROUTE:
            return None
        raise
    if found["type"] not in {RTN_UNICAST, RTN_LOCAL}:
        return None
    source, gateway = (found.get_attr(name) for name in ("RTA_PREFSRC", "RTA_GATEWAY"))
    return Route(
        interface=names.get(found.get_attr("RTA_OIF"), ""),
        source=ip_address(source) if source else None,
        gateway=ip_address(gateway) if gateway else None,
        local=found["type"] == RTN_LOCAL,
    )
