"""What must be so before rules are loaded: owners that can exist here, and somebody who listens where packets go."""

from __future__ import annotations

from collections.abc import Iterator

from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.spec import Address, CaptureSpec, Family
from meshdns.capture.system.proc import mapped_ids


def check(spec: CaptureSpec) -> tuple[str, ...]:
    """Return warnings of what makes rules void; PreflightError where packets would be sent to nobody."""
    _check_virtual(spec)
    return tuple(_impossible_owners(spec))


def _impossible_owners(spec: CaptureSpec) -> Iterator[str]:
    """Yield a warning of each id that this user namespace does not map: iptables refuses it, nft finds nobody."""
    for kind, option, ids in (
        ("uid", "--proxy-uid", spec.proxy_uids),
        ("uid", "--exclude-uid", spec.exclude_uids),
        ("gid", "--proxy-gid", spec.proxy_gids),
        ("gid", "--owner-group", spec.owner_groups or ()),
        ("gid", "--exclude-owner-group", spec.exclude_owner_groups),
    ):
        mapped = mapped_ids(kind) if ids else ()
        for number in ids:
            if not any(number in known for known in mapped):
                yield (
                    f"{option} {number}: nobody can run as it, for this user namespace has no {kind} {number}:"
                    f" map it (/proc/self/{kind}_map), or give one that is mapped"
                )


def _check_virtual(spec: CaptureSpec) -> None:
    """Raise PreflightError where resolver or relay do not listen at the address of a virtual interface.

    A redirect leads to the address of the interface by which a packet came in, never to loopback.
    """
    if not spec.virtual_interfaces:
        return
    from meshdns.capture.system.listeners import addresses_of, listeners  # noqa: PLC0415 - 3 ms, and hardly any has one

    found = tuple(listeners())
    for interface in spec.virtual_interfaces:
        ours = [address for address in addresses_of(interface) if Family.of(address) in spec.families]
        if not ours:
            raise PreflightError(
                f"cannot use --virtual-interface {interface}: it has no address that resolver and relay could listen at"
            )
        for family in spec.families:
            at = [address for address in ours if Family.of(address) is family]
            for protocol, port, who in _needed(spec, family) if at else ():
                heard = any(
                    one.hears(address) and (one.protocol, one.port) == (protocol, port)
                    for one in found
                    for address in at
                )
                if not heard:
                    raise PreflightError(_nobody(interface, at[0], protocol, port, who))


def _needed(spec: CaptureSpec, family: Family) -> Iterator[tuple[str, int, str]]:
    if spec.dns and any(Family.of(server.network) is family for server in spec.dns_servers):
        yield "udp", spec.dns_port, "resolver run --listen"
        yield "tcp", spec.dns_port, "resolver run --listen"
    if spec.outbound_ports or any(Family.of(cidr) is family for cidr in spec.outbound_cidrs):
        yield "tcp", spec.outbound_port, "resolver run --relay-listen"


def _nobody(interface: str, address: Address, protocol: str, port: int, who: str) -> str:
    where = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"  # noqa: PLR2004 - IP version
    return (
        f"cannot use --virtual-interface {interface}: nobody listens at {where} over {protocol}: give"
        f" `meshdns {who} {where}` besides its other addresses"
    )
