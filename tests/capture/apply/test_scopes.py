"""::1 is reachable by way of those interfaces by which something captured may be link-local, and by no others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from capturing import EVERYWHERE, SPEC, ports, servers, spec
from namespaces import Namespace, namespace, veth

from meshdns.capture.apply import scopes
from meshdns.capture.policy.spec import CaptureSpec, Family
from meshdns.capture.system import scope

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

BOTH = {"eth0", "eth1"}
WANTED: dict[str, tuple[CaptureSpec, set[str]]] = {
    "defaults": (SPEC, set()),
    "a zone": (spec(dns_servers=servers("fe80::53%eth1", "fe80::53%lo", "fe80::53%eth9")), {"eth1"}),
    "a zone of an excluded interface": (
        spec(dns_servers=servers("fe80::53%eth0", "fe80::53%eth1"), exclude_interfaces=("eth1",)),
        {"eth0"},
    ),
    "no zone": (spec(dns_servers=servers("10.96.0.10", "fe80::53")), BOTH),
    "one with and one without": (spec(dns_servers=servers("fe80::53%eth1", "fe80::54")), BOTH),
    "every server": (spec(dns_servers=servers("0.0.0.0/0", "::/0")), BOTH),
    "every server, but by eth0": (spec(dns_servers=servers("::/0"), exclude_interfaces=("eth0", "eth9")), {"eth1"}),
    "a part of the link-local network": (spec(dns_servers=servers("fe80::/64")), BOTH),
    "every server, IPv4 alone": (spec(dns_servers=servers("0.0.0.0/0", "::/0"), families=(Family.IPV4,)), set()),
    "no lookups": (spec(dns=False, dns_servers=servers("::/0", "fe80::53%eth0")), set()),
    "everything outbound": (spec(dns=False, dns_servers=(), outbound_cidrs=EVERYWHERE), BOTH),
    "everything outbound, IPv4 alone": (spec(outbound_cidrs=EVERYWHERE[:1]), set()),
    "an outbound network on the link": (spec(outbound_cidrs=(ip_network("fe80::/10"),)), BOTH),
    "another outbound network": (spec(outbound_cidrs=(ip_network("fd00::/8"), ip_network("fec0::/10"))), set()),
    "an outbound port": (spec(outbound_ports=ports(80)), BOTH),
}


@pytest.fixture(scope="module")
def pod() -> Iterator[Namespace]:
    """Two links with IPv6, one that has none, one that is down."""
    with namespace() as made, namespace() as outside:
        for name in ("eth0", "eth1", "eth2", "eth3"):
            veth(made, name, [], outside, name, [])
        made.run("sysctl", "-qw", "net.ipv6.conf.eth2.disable_ipv6=1")
        made.run("ip", "link", "set", "eth3", "down")
        yield made


@pytest.mark.parametrize("name", WANTED)
def test_these_interfaces_and_no_others(pod: Namespace, name: str) -> None:
    """What is settled is what the spec needs, whatever was before; then nothing differs, and nothing has to change."""
    wanted, interfaces = WANTED[name]
    pod.call(lambda: scopes.settle(spec(dns_servers=servers("fe80::1%eth0"))))
    pod.call(lambda: scopes.settle(wanted))
    assert pod.call(scope.reachable) == interfaces
    assert pod.call(lambda: scopes.differences(wanted)) == ()
    assert not pod.call(lambda: scopes.settle(wanted))


def test_a_difference_is_told_with_its_interface(pod: Namespace) -> None:
    """A route that is missing and one that is too much are lines of their own."""
    pod.call(lambda: scopes.settle(spec(dns_servers=servers("fe80::1%eth0"))))
    assert pod.call(lambda: scopes.differences(spec(dns_servers=servers("fe80::1%eth1")))) == (
        "- route to ::1 by way of eth1",
        "+ route to ::1 by way of eth0",
    )


def test_an_address_that_outlives_its_link_asks_for_nothing() -> None:
    """While a link is down no route can lead by it, and so none is missing, though it may keep its addresses."""
    wanted = spec(dns_servers=servers("::/0"))
    with namespace() as pod, namespace() as outside:
        veth(pod, "eth0", ["fd00::2/64"], outside, "eth0", [])
        pod.run("sysctl", "-qw", "net.ipv6.conf.eth0.keep_addr_on_down=1")
        assert pod.call(lambda: scopes.settle(wanted))
        pod.run("ip", "link", "set", "eth0", "down")
        assert "fd00::2" in pod.run("ip", "-6", "address", "show", "dev", "eth0").stdout
        assert pod.call(lambda: scopes.differences(wanted)) == ()
        assert not pod.call(lambda: scopes.settle(wanted))
        pod.run("ip", "link", "set", "eth0", "up")
        assert pod.call(lambda: scopes.differences(wanted)) == ("- route to ::1 by way of eth0",)
