"""CaptureSpec <-> a mapping of plain JSON values, for the kernel's comments and for people.

Keys are the spec's field names. Reading checks every value as building a spec does; an unknown key or a missing one is
an error, because the text comes from another version or another hand. Only what older versions did not write down may
be missing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any, Final

from meshdns.capture.errors import SpecError
from meshdns.capture.policy.spec import CaptureSpec, Family, InboundMode, OnResolverDown, PoolRest, Ports, Server

Json = Any


NOT_ALWAYS_RECORDED: Final = frozenset({"named_servers"})
"""No option of its own: it says where values of another one came from."""


def to_settings(spec: CaptureSpec) -> dict[str, Json]:
    """Return the spec as JSON values, whole."""
    unknown = {name for name in NOT_ALWAYS_RECORDED if getattr(spec, name) is None}
    return {name: _plain(getattr(spec, name)) for name in CaptureSpec.__annotations__ if name not in unknown}


def to_shown_settings(spec: CaptureSpec) -> dict[str, Json]:
    """Return the spec as JSON values for people: what they chose, and what came of it."""
    return {name: value for name, value in to_settings(spec).items() if name not in NOT_ALWAYS_RECORDED}


def from_settings(settings: Mapping[str, Json]) -> CaptureSpec:
    """Return the spec that `to_settings` wrote; SpecError or ValueError for anything else."""
    if not isinstance(settings, Mapping) or set(settings) | NOT_ALWAYS_RECORDED != set(CaptureSpec.__annotations__):
        raise SpecError("cannot read the configuration: it is of another version")
    return CaptureSpec(**{name: _READERS[name](value) for name, value in settings.items()})


def _plain(value: object) -> Json:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _of(kind: type) -> Callable[[Json], Json]:
    def read(value: Json) -> Json:
        # True is an int to Python, and no number to us.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise SpecError(f"cannot read the configuration: {value!r} is no {kind.__name__}")
        return value

    return read


def _tuple(item: Callable[[Json], Json]) -> Callable[[Json], Json]:
    return lambda value: tuple(item(one) for one in _of(list)(value))


def _optional(item: Callable[[Json], Json]) -> Callable[[Json], Json]:
    return lambda value: None if value is None else item(value)


def _ports(value: Json) -> Ports:
    first, dash, last = _of(str)(value).partition("-")
    return Ports(int(first), int(last if dash else first))


def _server(value: Json) -> Server:
    address, _, interface = _of(str)(value).partition("%")
    return Server(ip_network(address), interface or None)


def _seconds(value: Json) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else _of(float)(value)


_INT: Final = _of(int)
_INTS: Final = _tuple(_INT)
_NAMES: Final = _tuple(_of(str))
_NETWORKS: Final = _tuple(lambda value: ip_network(_of(str)(value)))
_PORTS: Final = _tuple(_ports)
_SERVERS: Final = _tuple(_server)

_READERS: Final[Mapping[str, Callable[[Json], Json]]] = {
    "families": _tuple(Family),
    "proxy_uids": _INTS,
    "proxy_gids": _INTS,
    "proxy_mark": _optional(_INT),
    "dns": _of(bool),
    "dns_port": _INT,
    "dns_servers": _SERVERS,
    "resolv_conf": _optional(_of(str)),
    "named_servers": _optional(_SERVERS),
    "on_resolver_down": OnResolverDown,
    "heartbeat_timeout_s": _seconds,
    "heartbeat_mark": _INT,
    "ct_zone": _INT,
    "outbound_port": _INT,
    "outbound_cidrs": _NETWORKS,
    "outbound_ports": _PORTS,
    "exclude_outbound_cidrs": _NETWORKS,
    "exclude_outbound_ports": _PORTS,
    "pools": _NETWORKS,
    "pool_rest": PoolRest,
    "owner_groups": _optional(_INTS),
    "exclude_owner_groups": _INTS,
    "exclude_uids": _INTS,
    "inbound_ports": _PORTS,
    "exclude_inbound_ports": _PORTS,
    "inbound_port": _INT,
    "inbound_mode": InboundMode,
    "tunnel_port": _INT,
    "tproxy_mark": _INT,
    "tproxy_table": _INT,
    "exclude_interfaces": _NAMES,
    "virtual_interfaces": _NAMES,
    "drop_invalid": _of(bool),
}
