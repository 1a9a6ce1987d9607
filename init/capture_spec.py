"""How the options of `meshdns capture`, resolv.conf and this machine's addresses become a CaptureSpec.

What may be said is `CaptureSpec`'s to refuse.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any, Final, TypeGuard, TypeVar

import click

from meshdns.capture.errors import PreflightError, SpecError
from meshdns.capture.policy.spec import (
    ALL_PORTS,
    CaptureSpec,
    Family,
    InboundMode,
    Network,
    OnResolverDown,
    PoolRest,
    Ports,
    Server,
)
from meshdns.capture.system.namespace import global_families
from meshdns.capture.values import dataclass
from meshdns.init import defaults
from meshdns.resolver.query.resolvconf import ResolvConf, parse

T = TypeVar("T")

EVERYTHING: Final[tuple[Network, ...]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
POOLS: Final[tuple[Network, ...]] = (defaults.POOL4, defaults.POOL6)
MAX_RESOLV_CONF_BYTES: Final = 1024 * 1024


def to_spec(options: Mapping[str, Any]) -> tuple[CaptureSpec, tuple[str, ...]]:
    """Return the spec for the network namespace we are in, and warnings; reads resolv.conf where it is asked for."""
    nameservers = _nameservers(options) if options["dns"] else _Nameservers((), None, None, ())
    cidrs = options["outbound_cidr"] or POOLS
    spec = CaptureSpec(
        families=_families(options["family"], nameservers.captured),
        proxy_uids=_unique(options["proxy_uid"]),
        proxy_gids=_unique(options["proxy_gid"]),
        proxy_mark=options["proxy_mark"],
        dns=options["dns"],
        dns_port=options["dns_port"],
        dns_servers=nameservers.captured,
        resolv_conf=nameservers.source,
        named_servers=nameservers.named,
        on_resolver_down=OnResolverDown(options["on_resolver_down"]),
        heartbeat_timeout_s=options["heartbeat_timeout"],
        heartbeat_mark=defaults.FWMARK,
        ct_zone=defaults.CT_ZONE,
        outbound_port=options["outbound_port"],
        outbound_cidrs=_unique(network for cidr in cidrs for network in (EVERYTHING if cidr == "*" else (cidr,))),
        outbound_ports=_ports(options["outbound_ports"]),
        exclude_outbound_cidrs=_unique(options["exclude_outbound_cidr"]),
        exclude_outbound_ports=_ports(options["exclude_outbound_ports"]),
        pools=POOLS,
        pool_rest=PoolRest(options["pool_rest"]),
        owner_groups=_owner_groups(options["owner_group"]),
        exclude_owner_groups=_unique(options["exclude_owner_group"]),
        exclude_uids=_unique(options["exclude_uid"]),
        inbound_ports=_ports(options["inbound_ports"]),
        exclude_inbound_ports=_ports(options["exclude_inbound_ports"]),
        inbound_port=options["inbound_port"],
        inbound_mode=InboundMode(options["inbound_mode"]),
        tunnel_port=options["tunnel_port"],
        tproxy_mark=options["tproxy_mark"],
        tproxy_table=options["tproxy_table"],
        exclude_interfaces=_unique(options["exclude_interface"]),
        virtual_interfaces=_unique(options["virtual_interface"]),
        drop_invalid=options["drop_invalid"],
    )
    return spec, (*nameservers.warnings, *spec.warnings())


def warned_spec(options: Mapping[str, Any]) -> CaptureSpec:
    """Return the spec as `to_spec` does, its warnings printed on stderr."""
    spec, warnings = to_spec(options)
    for warning in warnings:
        click.echo(f"meshdns: warning: {warning}", err=True)
    return spec


def listed_servers(path: str | os.PathLike[str]) -> tuple[Server, ...]:
    """Return the nameservers that a resolv.conf lists; PreflightError where it cannot be read."""
    return _unique(_servers(_read_resolv_conf(path)))


@dataclass(frozen=True, slots=True)
class _Nameservers:
    """The captured servers, the file that some were read from if any, those named beside it, and what is wrong."""

    captured: tuple[Server, ...]
    source: str | None
    named: tuple[Server, ...] | None
    warnings: tuple[str, ...]


def _nameservers(options: Mapping[str, Any]) -> _Nameservers:
    found: list[Server] = []
    named: list[Server] = []
    source: str | None = None
    warnings: tuple[str, ...] = ()
    if "all" in options["dns_servers"] and len(set(options["dns_servers"])) > 1:
        raise SpecError("cannot use --dns-servers all together with others: every server is captured, or these only")
    for value in options["dns_servers"]:
        if value == "all":
            found.extend(Server(network) for network in EVERYTHING)
        elif value == "resolv-conf":
            path = options["resolv_conf"]
            listed = _read_resolv_conf(path)
            found.extend(_servers(listed))
            warnings = tuple(f"{path}: {warning}" for warning in listed.warnings)
            source = os.path.abspath(path)  # noqa: PTH100 - pathlib costs 5 ms; `watch` may run in another directory
        else:
            named.append(Server(value.network, interface_of(value.interface)))
            found.append(named[-1])
    servers = _unique(found)
    nowhere = (
        f"nameserver {server} is captured nowhere: no interface has the number {server.interface}"
        for server in servers
        if _is_nowhere(server)
    )
    return _Nameservers(servers, source, _unique(named) if source else None, (*warnings, *nowhere))


def _servers(listed: ResolvConf) -> Iterator[Server]:
    for nameserver in listed.nameservers:
        yield Server.at(nameserver.address, interface_of(nameserver.zone))


def _read_resolv_conf(path: str | os.PathLike[str]) -> ResolvConf:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms
            content = file.read(MAX_RESOLV_CONF_BYTES)
    except OSError as error:
        raise PreflightError(
            f"cannot read the nameservers: {path}: {error.strerror}: give --resolv-conf or --dns-servers"
        ) from error
    return parse(content.decode(errors="replace"))


def interface_of(zone: str | None) -> str | None:
    """Return the interface of this namespace that a zone means: the one of that name, else of that number.

    A number that no interface has is returned as it is (RFC 4007, section 11.2).
    """
    if not _is_number(zone):
        return zone
    names = _interfaces()
    return zone if zone in names.values() else names.get(zone, zone)


def _is_number(zone: str | None) -> TypeGuard[str]:
    return zone is not None and zone.isascii() and zone.isdigit()


def _is_nowhere(server: Server) -> bool:
    return _is_number(server.interface) and server.interface not in _interfaces().values()


def _interfaces() -> dict[str, str]:
    """Return each interface's number and name."""
    import socket  # noqa: PLC0415 - 4 ms, and hardly any zone is a number

    return {str(number): name for number, name in socket.if_nameindex()}


def _families(choice: str, servers: tuple[Server, ...]) -> tuple[Family, ...]:
    if choice != "auto":
        return tuple(Family) if choice == "both" else (Family(choice),)
    listed = {Family.of(server.network) for server in servers if server.network.prefixlen}
    found = listed | global_families()
    if not found:
        raise PreflightError(
            "cannot choose an address family: no address besides loopback, no nameserver listed: give --family"
        )
    return tuple(family for family in Family if family in found)


def _owner_groups(groups: tuple[int | str, ...]) -> tuple[int, ...] | None:
    numbers = tuple(group for group in groups if isinstance(group, int))
    if numbers and len(numbers) < len(groups):
        raise SpecError("cannot use --owner-group all together with groups: everybody's traffic, or these groups' only")
    return _unique(numbers) or None


def _ports(ports: Iterable[Ports | str]) -> tuple[Ports, ...]:
    return _unique(ALL_PORTS if isinstance(one, str) else one for one in ports)


def _unique(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))
