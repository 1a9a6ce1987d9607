"""The options of `meshdns capture`: their names, types, defaults and help. What they come to is `capture_spec.py`'s."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import reduce
from ipaddress import ip_address
from typing import Any, Final, TypeVar

import click

from meshdns.capture.apply.backend import AUTO, BACKENDS
from meshdns.capture.policy.spec import (
    Address,
    InboundMode,
    OnResolverDown,
    PoolRest,
    Server,
)
from meshdns.init import defaults
from meshdns.init.istio_options import istio_options
from meshdns.init.options import Settings
from meshdns.init.parameters import (
    CIDR,
    GROUP,
    HEARTBEAT_SECONDS,
    INTERFACE,
    PORT,
    PORT_RANGE,
    SECONDS,
    USER,
    Keyword,
    NumberType,
)

F = TypeVar("F", bound=Callable[..., Any])

SETTINGS: Final = Settings("capture")
MAX_MARK: Final = 2**32 - 1
_MARK: Final = r"0[xX][0-9a-fA-F]{1,8}|[1-9][0-9]{0,9}"


class ZonedAddressType(click.ParamType[tuple[Address, str | None]]):
    """An address, with `%interface` behind a link-local one; the interface may be given by its number (RFC 4007)."""

    name = "address[%interface]"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[Address, str | None]:
        """Return the address and the zone, as they are written."""
        text, percent, interface = str(value).partition("%")
        try:
            address = ip_address(text)
        except ValueError:
            self.fail(f"{value!r} is not an IP address: give something like 10.96.0.10 or fe80::1%eth0", param, ctx)
        if percent and not interface:
            self.fail(f"{value!r} names no interface after '%': give something like fe80::1%eth0", param, ctx)
        return address, INTERFACE.convert(interface, param, ctx) if percent else None


ZONED_ADDRESS: Final = ZonedAddressType()


class NameserverType(click.ParamType[Server]):
    """A nameserver by its address, as in resolv.conf(5)."""

    name = ZonedAddressType.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Server:  # noqa: ANN401 - click's signature
        """Return the server; which interface a number means depends on the namespace, and is told later."""
        return Server.at(*ZONED_ADDRESS.convert(value, param, ctx))


class MarkType(click.ParamType[int]):
    """A packet mark, decimal or with 0x."""

    name = "mark"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """Return the mark, 1 to 2**32-1: 0 is what every packet has that nobody marked."""
        mark = int(str(value), 0) if re.fullmatch(_MARK, str(value)) else 0
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
        type=click.Path(readable=False),  # whoever reads it says why it cannot, with exit code 3
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
        type=HEARTBEAT_SECONDS,
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
        help=f"Destinations whose TCP is captured; '*' for all.  [default: {defaults.POOL4}, {defaults.POOL6}]",
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
