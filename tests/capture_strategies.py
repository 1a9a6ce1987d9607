"""Random configurations and packets for the laws of capture."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from capturing import POOLS, SPEC
from hypothesis import strategies as st

from meshdns.capture.errors import SpecError
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.simulate import Packet
from meshdns.capture.policy.spec import (
    ALL_PORTS,
    CaptureSpec,
    Family,
    InboundMode,
    OnResolverDown,
    PoolRest,
    Ports,
    Server,
)

INTERFACES = ("lo", "eth0", "eth1", "veth-a.7", "wg_0")
IDS = st.sampled_from((0, 5, 1000, 1337, 1338, 2**32 - 2))
ADDRESSES = st.sampled_from(
    [
        ip_address(text)
        for text in (
            *("10.96.0.10", "10.96.0.11", "127.0.0.1", "127.0.0.53", "240.240.0.1", "198.51.100.2", "10.0.0.2"),
            *("fd00:96::10", "fe80::1", "::1", "2001:2::1", "2001:db8::2", "fd00::2", "::6"),
        )
    ]
)
NETWORKS = st.one_of(
    ADDRESSES.flatmap(
        lambda address: st.integers(0, address.max_prefixlen).map(
            lambda length: ip_network(f"{address}/{length}", strict=False)
        )
    ),
    st.sampled_from(POOLS),
)
PORTS = st.one_of(
    st.sampled_from((Ports(53, 53), Ports(80, 80), ALL_PORTS)),
    st.tuples(st.integers(1, 65535), st.integers(0, 300)).map(
        lambda pair: Ports(pair[0], min(pair[0] + pair[1], 65535))
    ),
)
SERVERS = st.builds(Server, NETWORKS, st.sampled_from((None, None, None, "eth0", "eth1")))


def _some(strategy: st.SearchStrategy[object], most: int = 4) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=most, unique=True).map(tuple)


def _build(changes: dict[str, object]) -> CaptureSpec | None:
    base = {name: getattr(SPEC, name) for name in SPEC.__slots__}
    try:
        return CaptureSpec(**{**base, **changes})
    except SpecError:
        return None  # contradicts itself: refused, as it should be


SPECS: st.SearchStrategy[CaptureSpec] = (
    st.fixed_dictionaries(
        {
            "families": st.sampled_from((tuple(Family), (Family.IPV4,), (Family.IPV6,))),
            "proxy_uids": st.sampled_from(((1337,), (0, 1337), (1338, 1337))),
            "proxy_gids": _some(IDS, 2),
            "proxy_mark": st.sampled_from((None, 1, 77, 2**32 - 1)),
            "dns": st.booleans(),
            "dns_port": st.sampled_from((15053, 53, 65535)),
            "dns_servers": _some(SERVERS),
            "on_resolver_down": st.sampled_from(OnResolverDown),
            "heartbeat_timeout_s": st.sampled_from((0.5, 3.0, 3600.0)),
            "outbound_cidrs": _some(NETWORKS),
            "outbound_ports": _some(PORTS),
            "exclude_outbound_cidrs": _some(NETWORKS),
            "exclude_outbound_ports": _some(PORTS, 2),
            "pool_rest": st.sampled_from(PoolRest),
            "owner_groups": st.one_of(st.none(), st.lists(IDS, min_size=1, max_size=3, unique=True).map(tuple)),
            "exclude_owner_groups": _some(IDS, 2),
            "exclude_uids": _some(IDS, 2),
            "inbound_ports": _some(PORTS, 3),
            "exclude_inbound_ports": _some(PORTS, 2),
            "inbound_mode": st.sampled_from(InboundMode),
            "tproxy_mark": st.sampled_from((1337, 7)),
            "exclude_interfaces": _some(st.sampled_from(INTERFACES), 2),
            "virtual_interfaces": _some(st.sampled_from(INTERFACES), 2),
            "drop_invalid": st.booleans(),
        }
    )
    .map(_build)
    .filter(lambda built: built is not None)
    .map(lambda built: built or SPEC)
)

PACKETS: st.SearchStrategy[Packet] = st.builds(
    Packet,
    protocol=st.sampled_from((Protocol.TCP, Protocol.UDP)),
    destination=ADDRESSES,
    destination_port=st.sampled_from((53, 80, 443, 15008)),
    uid=IDS,
    gid=IDS,
    mark=st.sampled_from((0, 77)),
    out_interface=st.sampled_from(INTERFACES),
)
