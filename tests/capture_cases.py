"""The named configurations of capture: each states only what differs from the tests' own spec."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from capturing import APP, EVERYWHERE, LISTED, OUTSIDE, POOLS, STUB, ports, servers, spec

from meshdns.capture.policy.spec import ALL_PORTS, CaptureSpec, Family, InboundMode, OnResolverDown, PoolRest

CLOSED = OnResolverDown.CLOSED
TPROXY = InboundMode.TPROXY
V4 = (Family.IPV4,)
V6 = (Family.IPV6,)
OUTSIDE_NETS = (ip_network("198.51.100.0/24"), ip_network("2001:db8::/32"))

CASES: dict[str, CaptureSpec] = {
    "defaults": spec(),
    "closed": spec(on_resolver_down=CLOSED),
    "ipv4-only": spec(families=(Family.IPV4,)),
    "ipv6-only": spec(families=(Family.IPV6,), on_resolver_down=CLOSED),
    "no-dns": spec(dns=False, dns_servers=()),
    "no-dns-everything-outbound": spec(dns=False, dns_servers=(), outbound_cidrs=EVERYWHERE),
    "no-dns-closed": spec(dns=False, dns_servers=(), outbound_cidrs=EVERYWHERE, on_resolver_down=CLOSED),
    "heartbeat-timeout": spec(heartbeat_timeout_s=60.0),
    "no-server": spec(dns_servers=()),
    "all-servers": spec(dns_servers=servers("0.0.0.0/0", "::/0")),
    "all-servers-closed": spec(dns_servers=servers("0.0.0.0/0", "::/0"), on_resolver_down=CLOSED),
    "all-servers-ipv4": spec(families=V4, dns_servers=servers("0.0.0.0/0")),
    "all-servers-ipv6-closed": spec(families=V6, dns_servers=servers("::/0"), on_resolver_down=CLOSED),
    "loopback-server": spec(dns_servers=servers(*STUB)),
    "loopback-server-closed": spec(dns_servers=servers(*STUB), on_resolver_down=CLOSED),
    "own-address-server": spec(dns_servers=servers("10.0.0.2", "fd00::2")),
    "scoped-server": spec(dns_servers=servers(f"{LISTED[0]}%eth0", f"{LISTED[1]}%eth1")),
    "scoped-server-closed": spec(dns_servers=servers(f"{LISTED[0]}%eth0", LISTED[1]), on_resolver_down=CLOSED),
    "two-proxy-uids": spec(proxy_uids=(1337, 1338)),
    "two-proxy-gids": spec(proxy_gids=(1337, 5000)),
    "no-proxy-gid": spec(proxy_gids=()),
    "proxy-mark": spec(proxy_mark=77),
    "other-ports": spec(dns_port=15006, outbound_port=15053),
    "everything-outbound": spec(outbound_cidrs=EVERYWHERE),
    "everything-outbound-closed": spec(outbound_cidrs=EVERYWHERE, on_resolver_down=CLOSED),
    "everything-outbound-ipv4": spec(families=V4, outbound_cidrs=EVERYWHERE),
    "everything-outbound-ipv6-closed": spec(families=V6, outbound_cidrs=EVERYWHERE, on_resolver_down=CLOSED),
    "outbound-cidr": spec(outbound_cidrs=(*POOLS, *OUTSIDE_NETS)),
    "outbound-without-pools": spec(outbound_cidrs=OUTSIDE_NETS),
    "outbound-loopback": spec(outbound_cidrs=(*POOLS, ip_network("127.0.0.0/8"), ip_network("::1/128"))),
    "outbound-ports": spec(outbound_ports=ports(80, (8000, 8010))),
    "outbound-ports-closed": spec(outbound_ports=ports(80), on_resolver_down=CLOSED),
    "exclude-cidr": spec(outbound_cidrs=EVERYWHERE, exclude_outbound_cidrs=OUTSIDE_NETS),
    "exclude-cidr-of-server": spec(exclude_outbound_cidrs=(ip_network("10.96.0.0/16"), ip_network("fd00:96::/32"))),
    "exclude-cidr-ports": spec(outbound_ports=ports(80), exclude_outbound_cidrs=OUTSIDE_NETS),
    "exclude-pool": spec(exclude_outbound_cidrs=POOLS),
    "exclude-port": spec(outbound_cidrs=EVERYWHERE, exclude_outbound_ports=ports(80)),
    "exclude-port-range": spec(exclude_outbound_ports=ports((50, 79), 8080), outbound_cidrs=EVERYWHERE),
    "exclude-port-53": spec(exclude_outbound_ports=ports(53), on_resolver_down=CLOSED),
    "pool-direct": spec(pool_rest=PoolRest.DIRECT),
    "pool-direct-closed": spec(pool_rest=PoolRest.DIRECT, on_resolver_down=CLOSED),
    "pool-direct-everything-outbound": spec(pool_rest=PoolRest.DIRECT, outbound_cidrs=EVERYWHERE),
    "owner-group": spec(owner_groups=(5000, 5001), on_resolver_down=CLOSED),
    "owner-group-of-app": spec(owner_groups=(APP,)),
    "owner-group-exclude-uid": spec(owner_groups=(APP, 5000), exclude_uids=(5000,)),
    "exclude-group": spec(exclude_owner_groups=(5000,)),
    "exclude-group-everything-outbound": spec(exclude_owner_groups=(5000,), outbound_cidrs=EVERYWHERE),
    "exclude-uid": spec(exclude_uids=(5000,), outbound_cidrs=EVERYWHERE, on_resolver_down=CLOSED),
    "exclude-interface": spec(exclude_interfaces=("eth0",), outbound_cidrs=EVERYWHERE, on_resolver_down=CLOSED),
    "exclude-lo": spec(exclude_interfaces=("lo",), dns_servers=servers(*LISTED, *STUB)),
    "inbound-all": spec(inbound_ports=(ALL_PORTS,)),
    "inbound-list": spec(inbound_ports=ports(80, (8000, 8080)), exclude_inbound_ports=ports(8080)),
    "inbound-exclude": spec(inbound_ports=(ALL_PORTS,), exclude_inbound_ports=ports(22), families=(Family.IPV4,)),
    "inbound-exclude-interface": spec(inbound_ports=(ALL_PORTS,), exclude_interfaces=("eth0",)),
    "inbound-ipv6": spec(inbound_ports=(ALL_PORTS,), families=V6),
    "inbound-port": spec(inbound_ports=(ALL_PORTS,), inbound_port=15053, dns_port=15006),
    "inbound-tunnel-port": spec(inbound_ports=(ALL_PORTS,), tunnel_port=8080),
    "inbound-proxy-mark": spec(inbound_ports=(ALL_PORTS,), proxy_mark=77, proxy_gids=()),
    "inbound-everything-outbound": spec(inbound_ports=(ALL_PORTS,), outbound_cidrs=EVERYWHERE, on_resolver_down=CLOSED),
    "inbound-exclude-lo": spec(inbound_ports=(ALL_PORTS,), exclude_interfaces=("lo",)),
    "inbound-owner-group": spec(inbound_ports=ports(80), owner_groups=(5000,)),
    "virtual-interface": spec(virtual_interfaces=("eth0",), inbound_ports=(ALL_PORTS,), outbound_cidrs=EVERYWHERE),
    "virtual-interface-alone": spec(virtual_interfaces=("eth0",)),
    "virtual-interface-closed": spec(
        virtual_interfaces=("eth0",),
        outbound_cidrs=EVERYWHERE,
        exclude_outbound_ports=ports(22),
        exclude_outbound_cidrs=(ip_network("fd00::/64"),),
        on_resolver_down=CLOSED,
    ),
    "drop-invalid": spec(drop_invalid=True),
    "drop-invalid-exclude-interface": spec(drop_invalid=True, exclude_interfaces=("eth0",)),
    "tproxy-all": spec(inbound_ports=(ALL_PORTS,), inbound_mode=TPROXY),
    "tproxy-list": spec(inbound_ports=ports(80, (8000, 8080)), exclude_inbound_ports=ports(8080), inbound_mode=TPROXY),
    "tproxy-ipv4": spec(inbound_ports=(ALL_PORTS,), inbound_mode=TPROXY, families=V4),
    "tproxy-ipv6": spec(inbound_ports=(ALL_PORTS,), inbound_mode=TPROXY, families=V6),
    "tproxy-mark-and-table": spec(inbound_ports=(ALL_PORTS,), inbound_mode=TPROXY, tproxy_mark=7, tproxy_table=200),
    "tproxy-exclude-interface": spec(inbound_ports=(ALL_PORTS,), inbound_mode=TPROXY, exclude_interfaces=("eth0",)),
    "tproxy-virtual-interface": spec(
        inbound_ports=(ALL_PORTS,), inbound_mode=TPROXY, virtual_interfaces=("eth0",), outbound_cidrs=EVERYWHERE
    ),
    "tproxy-everything-outbound": spec(
        inbound_ports=(ALL_PORTS,), inbound_mode=TPROXY, outbound_cidrs=EVERYWHERE, drop_invalid=True
    ),
    "tproxy-proxy-mark": spec(inbound_ports=ports(80, 22), inbound_mode=TPROXY, proxy_mark=77),
    "everything-tproxy": spec(
        proxy_uids=(1337, 1338),
        proxy_mark=77,
        dns_servers=servers(*LISTED, *STUB, "10.96.0.11%eth0"),
        outbound_cidrs=EVERYWHERE,
        exclude_outbound_cidrs=(ip_network(f"{OUTSIDE[0]}/32"),),
        exclude_outbound_ports=ports(8080),
        outbound_ports=ports(22),
        owner_groups=(APP, 5000),
        exclude_uids=(5000,),
        inbound_ports=(ALL_PORTS,),
        exclude_inbound_ports=ports(22),
        inbound_mode=TPROXY,
        exclude_interfaces=("eth7",),
        virtual_interfaces=("eth8",),
        drop_invalid=True,
    ),
    "everything": spec(
        proxy_uids=(1337, 1338),
        proxy_mark=77,
        on_resolver_down=CLOSED,
        dns_servers=servers(*LISTED, *STUB),
        outbound_cidrs=EVERYWHERE,
        exclude_outbound_cidrs=(ip_network(f"{OUTSIDE[0]}/32"),),
        exclude_outbound_ports=ports(8080),
        outbound_ports=ports(22),
        exclude_owner_groups=(5000,),
        exclude_uids=(5000,),
        inbound_ports=(ALL_PORTS,),
        exclude_inbound_ports=ports(22),
        exclude_interfaces=("eth7",),
        drop_invalid=True,
    ),
}


def needing_ids(case: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a case that goes to iptables.

    That says "none of these groups" by ranges of ids, and in a user namespace a kernel refuses ids that do not exist.
    """
    return [pytest.mark.root] if CASES[case].owner_groups is not None else []


FOR_IPTABLES = [pytest.param(case, id=case, marks=needing_ids(case)) for case in CASES]
