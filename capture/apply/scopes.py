"""Which interfaces ::1 must be reachable by, so that lookups of a link-local nameserver find the resolver."""

from __future__ import annotations

from meshdns.capture.policy.spec import CaptureSpec, Family
from meshdns.capture.system import scope


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
        *(f"- route to ::1 by way of {interface}" for interface in sorted(wanted - have)),
        *(f"+ route to ::1 by way of {interface}" for interface in sorted(have - wanted)),
    )


def _wanted(spec: CaptureSpec | None) -> frozenset[str]:
    """Only interfaces with an IPv6 address count: on others no socket speaks to a link-local server."""
    if spec is None or not spec.dns or Family.IPV6 not in spec.families:
        return frozenset()
    scopes = {server.interface for server in spec.dns_servers if Family.of(server.network) is Family.IPV6}
    return scope.with_ipv6() & {interface for interface in scopes if interface and interface != "lo"}
