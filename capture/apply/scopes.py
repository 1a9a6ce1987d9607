"""Which interfaces ::1 must be reachable by, so that what is captured on its way to a link-local address comes home."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import Final

from meshdns.capture.policy.spec import CaptureSpec, Family, Network
from meshdns.capture.system import scope

LINK_LOCAL: Final = IPv6Network("fe80::/10")
"""Only sockets bound to an interface speak to these (RFC 4291, section 2.5.6)."""
ROUTE: Final = "route to ::1 by way of"
"""What a difference is about, in words."""


def settle(spec: CaptureSpec | None) -> bool:
    """Make ::1 reachable by exactly the interfaces that `spec` needs (None: none); returns whether that changed it."""
    wanted, have = _wanted(spec), scope.reachable()
    for interface in sorted(wanted - have):
        scope.make_reachable(interface)
    for interface in sorted(have - wanted):
        scope.forget(interface)
    return wanted != have


def differences(spec: CaptureSpec) -> tuple[str, ...]:
    """Return what is missing or too much, as lines of `- expected` and `+ live`."""
    wanted, have = _wanted(spec), scope.reachable()
    return (
        *(f"- {ROUTE} {interface}" for interface in sorted(wanted - have)),
        *(f"+ {ROUTE} {interface}" for interface in sorted(have - wanted)),
    )


def _wanted(spec: CaptureSpec | None) -> frozenset[str]:
    """Only interfaces that speak IPv6 now count: the kernel takes a route by no other, and no socket needs one."""
    if spec is None or Family.IPV6 not in spec.families:
        return frozenset()
    named = {server.interface for server in spec.dns_servers if spec.dns and Family.of(server.network) is Family.IPV6}
    is_any = _by_any_interface(spec)
    if not is_any and named <= {None}:
        return frozenset()
    speaking = scope.with_ipv6() - {"lo", *spec.exclude_interfaces}
    return speaking if is_any else speaking & named


def _by_any_interface(spec: CaptureSpec) -> bool:
    """Return whether something may be link-local that is captured by whatever interface it leaves."""
    unscoped = (server.network for server in spec.dns_servers if spec.dns and not server.interface)
    networks = (*unscoped, *spec.outbound_cidrs)
    return bool(spec.outbound_ports) or any(map(may_be_link_local, networks))


def may_be_link_local(network: Network) -> bool:
    """Return whether an address of the network is link-local in IPv6."""
    return isinstance(network, IPv6Network) and network.overlaps(LINK_LOCAL)
