"""A spec that contradicts itself cannot be built, and the error names option, value and reason."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from capturing import ports, servers, spec

from meshdns.capture.errors import SpecError
from meshdns.capture.policy.spec import ALL_PORTS, Family, InboundMode, Ports

REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no family": ({"families": ()}, "--family"),
    "no proxy uid": ({"proxy_uids": ()}, "--proxy-uid"),
    "uid of nobody": ({"proxy_uids": (2**32 - 1,)}, "--proxy-uid 4294967295: give a number from 0 to 4294967294"),
    "negative gid": ({"exclude_owner_groups": (-1,)}, "--exclude-owner-group -1"),
    "no owner group": ({"owner_groups": ()}, "--owner-group"),
    "owner group in and out": ({"owner_groups": (5,), "exclude_owner_groups": (5,)}, "group 5 in --owner-group"),
    "port 0": ({"dns_port": 0}, "--dns-port 0: give a number from 1 to 65535"),
    "port too high": ({"outbound_port": 65536}, "--outbound-port 65536"),
    "one port twice": ({"dns_port": 15001}, "--outbound-port 15001: --dns-port is 15001 as well"),
    "inbound port twice": ({"inbound_port": 15001, "inbound_ports": (ALL_PORTS,)}, "--inbound-port 15001"),
    "mark 0": ({"proxy_mark": 0}, "--proxy-mark 0: give a number from 1"),
    "timeout that never ends": ({"heartbeat_timeout_s": 0.0001}, "--heartbeat-timeout 0.0001"),
    "table 0": ({"tproxy_table": 0}, "--tproxy-table 0"),
    "the table of everything else": ({"tproxy_table": 254}, "--tproxy-table 254"),
    "a proxy whose packets stay here": (
        {"inbound_mode": InboundMode.TPROXY, "inbound_ports": (ALL_PORTS,), "proxy_mark": 1337},
        "--proxy-mark 1337: --tproxy-mark is 1337 as well",
    ),
    "port in and out": (
        {"outbound_ports": ports((80, 90)), "exclude_outbound_ports": ports(85)},
        "--outbound-ports 80-90: --exclude-outbound-ports excludes it",
    ),
    "interface too long": ({"exclude_interfaces": ("abcdefghijklmnop",)}, "--exclude-interface 'abcdefghijklmnop'"),
    "interface with a quote": ({"virtual_interfaces": ('a"b',)}, "--virtual-interface 'a\"b'"),
    "interface with a new line": ({"exclude_interfaces": ("a\nb",)}, "--exclude-interface 'a\\nb'"),
    "interface with a wildcard": ({"exclude_interfaces": ("eth*",)}, "no '*' or '+' at its end"),
    "no interface": ({"exclude_interfaces": ("",)}, "--exclude-interface ''"),
    "interface in and out": ({"exclude_interfaces": ("eth1",), "virtual_interfaces": ("eth1",)}, "cannot have eth1"),
    "scope with a quote": ({"dns_servers": servers('fe80::1%a"b')}, "--dns-servers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_is_refused(name: str) -> None:
    """Each contradiction is one line that names the option, the value and what would do."""
    changes, text = REFUSED[name]
    with pytest.raises(SpecError) as refused:
        spec(**changes)
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (1, 65536)])
def test_ports_out_of_range_are_refused(first: int, last: int) -> None:
    """A range begins at 1, ends at 65535, and is not upside down."""
    with pytest.raises(SpecError):
        Ports(first, last)


WARNED: dict[str, tuple[dict[str, object], str]] = {
    "pools not captured": ({"outbound_cidrs": (ip_network("10.0.0.0/8"),)}, "leases lead nowhere"),
    "server of a family left out": ({"families": (Family.IPV4,)}, "nameserver fd00:96::10"),
    "no server": ({"dns_servers": ()}, "no lookup is captured"),
    "timeout below a second": ({"heartbeat_timeout_s": 0.5}, "--heartbeat-timeout 0.5"),
    "tproxy without inbound": ({"inbound_mode": InboundMode.TPROXY}, "without --inbound-ports"),
    "exclusion without inbound": ({"exclude_inbound_ports": ports(22)}, "without --inbound-ports"),
}


@pytest.mark.parametrize("name", WARNED)
def test_surprises_are_warned_of(name: str) -> None:
    """What is allowed but does something else than one may think is said."""
    changes, text = WARNED[name]
    assert text in " ".join(spec(**changes).warnings())


def test_the_usual_has_no_warning() -> None:
    """A configuration in order has nothing to warn of."""
    assert spec().warnings() == ()
