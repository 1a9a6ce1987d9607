"""The options of `meshdns capture`, and how they, resolv.conf and this machine's addresses become a CaptureSpec.

The options themselves are plain values when they arrive here; what may be said is `CaptureSpec`'s to refuse.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeVar

import click

from meshdns.capture.apply.backend import AUTO, BACKENDS
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
from meshdns.init import defaults
from meshdns.init.istio_options import istio_options
from meshdns.init.options import Settings
from meshdns.init.parameters import (
    CIDR,
    GROUP,
    INTERFACE,
    PORT,
    PORT_RANGE,
    SECONDS,
    USER,
    Keyword,
    NumberType,
    PortRange,
)
from meshdns.resolver.query.resolvconf import ResolvConf, parse

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

SETTINGS: Final = Settings("capture")
EVERYTHING: Final[tuple[Network, ...]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
POOLS: Final[tuple[Network, ...]] = (defaults.POOL4, defaults.POOL6)
MAX_RESOLV_CONF_BYTES: Final = 1024 * 1024
MAX_MARK: Final = 2**32 - 1


class NameserverType(click.ParamType[Server]):
    """An address, with `%interface` behind a link-local one."""

    name = "address[%interface]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Server:  # noqa: ANN401 - click's signature
        """Return the server; the unspecified address means this machine, as everywhere in the resolver's world."""
        text, percent, interface = str(value).partition("%")
        try:
            address = ip_address(text)
        except ValueError:
            self.fail(f"{value!r} is not an IP address: give something like 10.96.0.10 or fe80::1%eth0", param, ctx)
        if percent and not interface:
            self.fail(f"{value!r} names no interface after '%': give something like fe80::1%eth0", param, ctx)
        if percent:
            interface = INTERFACE.convert(interface, param, ctx)
        return _server(address, interface or None)


class MarkType(click.ParamType[int]):
    """A packet mark, decimal or with 0x."""

    name = "mark"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """Return the mark, 1 to 2**32-1: 0 is what every packet has that nobody marked."""
        try:
            mark = int(str(value), 0)
        except ValueError:
            mark = 0
        if not 1 <= mark <= MAX_MARK:
            self.fail(f"{value!r} is not a mark: give a number from 1 to {MAX_MARK}, such as 1337 or 0x539", param, ctx)
        return mark


_OWNER: Final = (
    SETTINGS.option(
        "--proxy-uid",
        many=True,
        type=USER,
        default=(defaults.PROXY_UID,),
        help="Users whose traffic is never captured; the resolver's must be among them.",
    ),
    SETTINGS.option(
        "--proxy-gid",
        many=True,
        type=GROUP,
        default=(defaults.PROXY_GID,),
        help="Groups whose traffic is never captured.",
    ),
    SETTINGS.option("--proxy-mark", type=MarkType(), help="Packets with this mark are never captured."),
    SETTINGS.option(
        "--owner-group",
        many=True,
        type=Keyword(GROUP, "all"),
        metavar="all|GROUP[,…]",
        help="Only these groups' traffic is captured.",
    ),
    SETTINGS.option("--exclude-owner-group", many=True, type=GROUP, help="These groups' traffic is left alone."),
    SETTINGS.option("--exclude-uid", many=True, type=USER, help="These users' traffic is left alone."),
)
_DNS: Final = (
    SETTINGS.option("--dns/--no-dns", default=True, help="Capture port 53."),
    SETTINGS.option("--dns-port", type=PORT, default=defaults.DNS_PORT, help="Where the resolver listens."),
    SETTINGS.option(
        "--dns-servers",
        many=True,
        type=Keyword(NameserverType(), "resolv-conf", "all"),
        metavar="resolv-conf|all|ADDRESS[%INTERFACE][,…]",
        default=("resolv-conf",),
        help="Whose port 53 is captured.",
    ),
    SETTINGS.option(
        "--resolv-conf",
        type=click.Path(),
        default=defaults.RESOLV_CONF,
        help="Where the nameservers are listed.",
    ),
    SETTINGS.option(
        "--on-resolver-down",
        type=click.Choice([choice.value for choice in OnResolverDown]),
        default=OnResolverDown.OPEN.value,
        help="Without a heartbeat: to the nameserver that was asked, or refused.",
    ),
    SETTINGS.option(
        "--heartbeat-timeout",
        type=SECONDS,
        default=defaults.HEARTBEAT_TIMEOUT_S,
        help="Seconds without a heartbeat after which the resolver counts as down.",
    ),
)
_OUTBOUND: Final = (
    SETTINGS.option("--outbound-port", type=PORT, default=defaults.RELAY_PORT, help="Where captured TCP goes."),
    SETTINGS.option(
        "--outbound-cidr",
        many=True,
        type=Keyword(CIDR, "*"),
        help=f"Destinations whose TCP is captured; '*' for all.  [default: {POOLS[0]}, {POOLS[1]}]",
    ),
    SETTINGS.option("--outbound-ports", many=True, type=PORT_RANGE, help="TCP ports captured wherever they are."),
    SETTINGS.option("--exclude-outbound-cidr", many=True, type=CIDR, help="Destinations whose TCP is left alone."),
    SETTINGS.option(
        "--exclude-outbound-ports",
        many=True,
        type=PORT_RANGE,
        help="TCP and UDP ports left alone; 53: no DNS either.",
    ),
    SETTINGS.option(
        "--pool-rest",
        type=click.Choice([choice.value for choice in PoolRest]),
        default=PoolRest.REJECT.value,
        help="What happens to a pool address by anything that is not captured.",
    ),
)
_INBOUND: Final = (
    SETTINGS.option(
        "--inbound-ports",
        many=True,
        type=Keyword(PORT_RANGE, "*"),
        help="Inbound TCP ports sent to a proxy of your own; '*' for all.",
    ),
    SETTINGS.option("--exclude-inbound-ports", many=True, type=PORT_RANGE, help="Inbound ports left alone."),
    SETTINGS.option("--inbound-port", type=PORT, default=defaults.INBOUND_PORT, help="Where inbound TCP goes."),
    SETTINGS.option(
        "--tunnel-port", type=PORT, default=defaults.TUNNEL_PORT, help="Inbound port that your proxy has itself."
    ),
    SETTINGS.option(
        "--inbound-mode",
        type=click.Choice([choice.value for choice in InboundMode]),
        default=InboundMode.REDIRECT.value,
        help="How it goes there; tproxy keeps source and destination, and your proxy listens transparently.",
    ),
    SETTINGS.option("--tproxy-mark", type=MarkType(), default=defaults.FWMARK, help="What marks its packets."),
    SETTINGS.option(
        "--tproxy-table",
        type=NumberType(1, MAX_MARK),
        default=defaults.ROUTE_TABLE,
        help="Routing table that keeps them on this machine.",
    ),
    SETTINGS.option("--exclude-interface", many=True, type=INTERFACE, help="Interfaces that are left alone."),
    SETTINGS.option(
        "--virtual-interface",
        many=True,
        type=INTERFACE,
        help="What enters there is treated as outbound; resolver and relay must listen at its address too.",
    ),
    SETTINGS.option("--drop-invalid", is_flag=True, help="Drop packets that conntrack calls invalid."),
)
_FAMILY: Final = (
    SETTINGS.option(
        "--family",
        type=click.Choice(["auto", "ipv4", "ipv6", "both"]),
        default="auto",
        help="auto: each family with an address besides loopback and link-local, or a listed nameserver.",
    ),
)
_PLACE: Final = (
    SETTINGS.option("--netns", metavar="NAME|PATH|pid:N", help="Work in that network namespace."),
    SETTINGS.option(
        "--backend", type=click.Choice([AUTO, *BACKENDS]), default=AUTO, help="What the kernel is told with."
    ),
    SETTINGS.file_option(),
)

istio_documents: Final = istio_options(SETTINGS)
log_option: Final = SETTINGS.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="How it is logged, on stderr."
)
rules_only_option: Final = SETTINGS.option("--rules-only", is_flag=True, help="Send no packets: no resolver runs yet.")
_CARE: Final = (
    SETTINGS.option(
        "--wait-ready",
        type=SECONDS,
        help="Seconds to wait for the resolver's answer over UDP and TCP before anything is installed.",
    ),
    SETTINGS.option(
        "--commit-timeout",
        type=SECONDS,
        help="Seconds after which what was installed before comes back, unless `confirm` is run.",
    ),
)


def care_options(command: F) -> F:
    """Decorate a command with `--wait-ready` and `--commit-timeout`; None where they are not given."""
    return reduce(lambda decorated, option: option(decorated), reversed(_CARE), command)


def spec_options(command: F) -> F:
    """Decorate a command with every option that goes into a CaptureSpec."""
    options = (*_FAMILY, *_DNS, *_OWNER, *_OUTBOUND, *_INBOUND)
    return reduce(lambda decorated, option: option(decorated), reversed(options), command)


def recorded_options(command: F) -> F:
    """Decorate a command that goes by what was recorded, but takes a spec's options instead; help leaves them out."""
    others = len(getattr(command, "__click_params__", ()))
    decorated = spec_options(command)
    for option in decorated.__click_params__[others:]:  # type: ignore[attr-defined]  # where click keeps them
        option.hidden = True
    return decorated


def place_options(command: F) -> F:
    """Decorate a command with `--netns`, `--backend` and `--config`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_PLACE), command)


def any_given(ctx: click.Context, options: Mapping[str, Any]) -> bool:
    """Return whether one of `options` came from anywhere but its default."""
    default = click.core.ParameterSource.DEFAULT
    return any(ctx.get_parameter_source(name) is not default for name in options)


def to_spec(options: Mapping[str, Any]) -> tuple[CaptureSpec, tuple[str, ...]]:
    """Return the spec for the network namespace we are in, and warnings; reads resolv.conf where it is asked for."""
    servers, source, warnings = _nameservers(options) if options["dns"] else ((), None, ())
    cidrs = options["outbound_cidr"] or POOLS
    spec = CaptureSpec(
        families=_families(options["family"], servers),
        proxy_uids=_unique(options["proxy_uid"]),
        proxy_gids=_unique(options["proxy_gid"]),
        proxy_mark=options["proxy_mark"],
        dns=options["dns"],
        dns_port=options["dns_port"],
        dns_servers=servers,
        resolv_conf=source,
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
    return spec, (*warnings, *spec.warnings())


def warned_spec(options: Mapping[str, Any]) -> CaptureSpec:
    """Return the spec as `to_spec` does, its warnings printed on stderr."""
    spec, warnings = to_spec(options)
    for warning in warnings:
        click.echo(f"meshdns: warning: {warning}", err=True)
    return spec


def listed_servers(path: str | os.PathLike[str]) -> tuple[Server, ...]:
    """Return the nameservers that a resolv.conf lists; PreflightError where it cannot be read."""
    return _unique(_servers(_read_resolv_conf(path)))


def _nameservers(options: Mapping[str, Any]) -> tuple[tuple[Server, ...], str | None, tuple[str, ...]]:
    """Return the captured servers, the file they were read from if any, and what is wrong with it."""
    found: list[Server] = []
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
            found.append(value)
    return _unique(found), source, warnings


def _servers(listed: ResolvConf) -> Iterator[Server]:
    for nameserver in listed.nameservers:
        yield _server(nameserver.address, _interface(nameserver.zone))


def _read_resolv_conf(path: str | os.PathLike[str]) -> ResolvConf:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms
            content = file.read(MAX_RESOLV_CONF_BYTES)
    except OSError as error:
        raise PreflightError(
            f"cannot read the nameservers: {path}: {error.strerror}: give --resolv-conf or --dns-servers"
        ) from error
    return parse(content.decode(errors="replace"))


def _server(address: IPv4Address | IPv6Address, interface: str | None) -> Server:
    if address.is_unspecified:
        address = IPv4Address("127.0.0.1") if address.version == 4 else IPv6Address("::1")  # noqa: PLR2004 - IP version
    return Server(ip_network(address), interface)


def _interface(zone: str | None) -> str | None:
    """Return the interface that a zone names; it may also be the interface's number (RFC 4007, section 11.2)."""
    if zone is None or not (zone.isascii() and zone.isdigit()):
        return zone
    try:
        return socket.if_indextoname(int(zone))
    except (OSError, OverflowError):
        return zone


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


def _ports(ports: Iterable[PortRange | str]) -> tuple[Ports, ...]:
    return _unique(ALL_PORTS if isinstance(one, str) else Ports(one.first, one.last) for one in ports)


def _unique(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))
