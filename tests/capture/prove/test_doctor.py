"""Each thing that keeps capture from working has a finding of its own, with cause and fix; a sound machine has none."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from capturing import LISTED, POOLS, ports, servers, spec

from meshdns.capture.policy.spec import ALL_PORTS, CaptureSpec, Family, OnResolverDown, PoolRest
from meshdns.capture.prove.doctor import CHECKS, Level, examine
from meshdns.capture.prove.facts import Facts, Installed, Known, Nameservers, Standing
from meshdns.capture.prove.leaving import Way
from meshdns.capture.system.holders import Program
from meshdns.capture.system.listeners import Listener

SOUND = Facts(
    uid=0,
    capabilities=frozenset({"NET_ADMIN"}),
    kernel=(6, 1, 0),
    programs={"nft": (1, 0, 6), "iptables-nft-restore": (1, 8, 9), "iptables-legacy-restore": None},
    oldest={"nft": (1, 0, 1), "iptables-nft-restore": (1, 8, 7), "iptables-legacy-restore": (1, 8, 7)},
    refused="",
    chains=frozenset(),
    legacy_rules=0,
    nft_rules=0,
    hosts_line=("files", "dns"),
    interfaces=frozenset({"lo", "eth0"}),
    up=frozenset({"lo", "eth0"}),
    addressed=frozenset(Family),
    listeners=(Listener("udp", ip_address("127.0.0.1"), 15053, 1337), Listener("tcp", ip_address("::1"), 15001, 1337)),
    programs_at={},
    ways={},
    pool_routes=(),
    forwarders={},
    caches=frozenset(),
    saved={},
    ssh_ports=frozenset({22}),
    unseen=(),
)
RESOLV_CONF = "/etc/resolv.conf"
AT_THE_STUB = {"listeners": (Listener("udp", ip_address("127.0.0.53"), 53, 991),)}
ROOTS = (Listener("udp", ip_address("127.0.0.1"), 15053, 0),)


def _installed(*alive: Family, age_s: float | None = None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - a spec's
    wanted: CaptureSpec = spec(resolv_conf=RESOLV_CONF, **changes)
    return {"known": Known(standing=Standing(Installed(wanted, frozenset(alive), age_s)))}


def _listing(**said: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of Nameservers
    return {"known": Known(nameservers=Nameservers(path=RESOLV_CONF, **said))}


STUB = {"dns_servers": servers("127.0.0.53", "10.0.0.1")}
UPSTREAMS = {"systemd-resolved": (ip_address("10.0.0.1"),)}
SAVED = "table inet meshdns {\n chain rest {\n udp dport 53 reject comment rest-dns-udp-4\n }\n}\n"
SAVED_OPEN = SAVED.replace("rest-dns", "nat-dns")

SICK: dict[str, tuple[str, Level, dict[str, Any], dict[str, Any]]] = {
    "root without the capability": ("capability", Level.ERROR, {"capabilities": frozenset()}, {}),
    "an ordinary user": ("capability", Level.WARNING, {"capabilities": frozenset(), "uid": 1000}, {}),
    "a kernel of long ago": ("kernel-old", Level.ERROR, {"kernel": (4, 19, 0)}, {}),
    "no program at all": ("program-missing", Level.ERROR, {"programs": {"nft": None}}, {}),
    "rules that no program shows": (
        "program-missing",
        Level.ERROR,
        {
            "known": Known(standing=Standing(missing="nft", package="nftables", unseen="no nft")),
            "programs": {"nft": None},
        },
        {},
    ),
    "an nft of long ago": ("program-missing", Level.WARNING, {"programs": {"nft": (0, 9, 8)}}, {}),
    "a kernel without redirect": ("module-missing", Level.ERROR, {"refused": "line 3: redirect: No such file"}, {}),
    "rules in both dialects": ("legacy-and-nft", Level.WARNING, {"legacy_rules": 3, "nft_rules": 5}, {}),
    "Docker's chain": ("docker-dns", Level.WARNING, {"chains": frozenset({"ip nat DOCKER_OUTPUT"})}, {}),
    "Docker's nameserver": ("docker-dns", Level.WARNING, {}, {"dns_servers": servers("127.0.0.11")}),
    "Istio's chain": ("other-mesh", Level.WARNING, {"chains": frozenset({"ip nat ISTIO_OUTPUT"})}, {}),
    "Istio's table": ("other-mesh", Level.WARNING, {"chains": frozenset({"inet istio-proxy-nat output"})}, {}),
    "Linkerd's legacy chain": ("other-mesh", Level.WARNING, {"chains": frozenset({"PROXY_INIT_OUTPUT"})}, {}),
    "rules that somebody changed": (
        "rules-changed",
        Level.WARNING,
        {"known": Known(standing=Standing(drift=("- a rule", "+ another")))},
        {},
    ),
    "no resolv.conf": ("resolv-conf", Level.ERROR, _listing(trouble="No such file or directory"), {}),
    "a resolv.conf that leads nowhere": ("resolv-conf", Level.ERROR, _listing(trouble="?", leads_to="../stub"), {}),
    "a resolv.conf of no nameserver": (
        "resolv-conf",
        Level.WARNING,
        _listing(servers=servers("127.0.0.1", "::1"), lists_any=False),
        {},
    ),
    "a line that cannot be used": ("resolv-conf", Level.WARNING, _listing(unusable=("line 1: …",)), {}),
    "a nameserver that is new": (
        "resolv-conf",
        Level.WARNING,
        {
            "known": Known(
                standing=Standing(Installed(spec(resolv_conf=RESOLV_CONF), frozenset(Family), None)),
                nameservers=Nameservers(path=RESOLV_CONF, servers=servers("10.9.9.9")),
            )
        },
        {},
    ),
    "a stub without its daemon": ("resolved-stub", Level.WARNING, {}, {"dns_servers": servers("127.0.0.53")}),
    "a stub of somebody else's": ("resolved-stub", Level.WARNING, AT_THE_STUB, {"dns_servers": servers("127.0.0.53")}),
    "multicast before DNS": ("nsswitch-bypass", Level.WARNING, {"hosts_line": ("files", "mdns4", "dns")}, {}),
    "D-Bus to somebody who asks others": (
        "nsswitch-bypass",
        Level.WARNING,
        {"forwarders": {"systemd-resolved": (ip_address("10.9.9.9"),)}, "hosts_line": ("files", "resolve", "dns")},
        {},
    ),
    "no DNS at all": ("nsswitch-bypass", Level.WARNING, {"hosts_line": ("files",)}, {}),
    "a stub that asks a captured server": ("dns-loop", Level.ERROR, {"forwarders": UPSTREAMS, **AT_THE_STUB}, STUB),
    "a stub that asks, and another user is excluded": (
        "dns-loop",
        Level.ERROR,
        {"forwarders": UPSTREAMS, **AT_THE_STUB},
        {**STUB, "exclude_uids": (990,)},
    ),
    "a forwarder where all is captured": (
        "dns-loop",
        Level.ERROR,
        {"forwarders": UPSTREAMS, **AT_THE_STUB},
        {"dns_servers": servers("0.0.0.0/0")},
    ),
    "no heartbeat": ("no-heartbeat", Level.WARNING, _installed(Family.IPV6), {}),
    "no heartbeat, and lookups refused": (
        "no-heartbeat",
        Level.ERROR,
        _installed(on_resolver_down=OnResolverDown.CLOSED),
        {},
    ),
    "a program of root's at the DNS port": (
        "port-taken",
        Level.ERROR,
        {"listeners": ROOTS, "programs_at": {("udp", 15053): (Program(7, 0, "other"),)}},
        {},
    ),
    "somebody else at the DNS port": (
        "port-taken",
        Level.ERROR,
        {"listeners": tuple(Listener("udp", ip_address(one), 15053, 997) for one in ("127.0.0.1", "::1"))},
        {},
    ),
    "a pool that lives elsewhere": (
        "pool-routed",
        Level.WARNING,
        {"pool_routes": ((ip_network("240.0.0.0/4"), "eth1"),)},
        {},
    ),
    "no family to choose": ("no-address", Level.ERROR, {"known": Known(has_family=False)}, {}),
    "a pool by lo": ("pool-routed", Level.ERROR, {"ways": {ip_address("2001:2::1"): Way("lo", local=False)}}, {}),
    "a pool of this machine's": (
        "pool-routed",
        Level.ERROR,
        {"ways": {ip_address("240.240.0.1"): Way("lo", local=True)}, "up": frozenset({"lo"})},
        {},
    ),
    "a pool by an excluded interface": (
        "pool-routed",
        Level.ERROR,
        {"ways": {ip_address("240.240.0.1"): Way("eth0", local=False)}},
        {"exclude_interfaces": ("eth0",)},
    ),
    "a nameserver without a way": ("no-route", Level.ERROR, {"ways": {ip_address(LISTED[0]): None}}, {}),
    "a nameserver beyond an interface that is not there": (
        "no-route",
        Level.ERROR,
        {},
        {"dns_servers": servers("fe80::1%eth9")},
    ),
    "a pool without a way": ("no-route", Level.ERROR, {"ways": {ip_address("240.240.0.1"): None}}, {}),
    "no loopback": ("lo-down", Level.ERROR, {"up": frozenset({"eth0"})}, {}),
    "SSH among the captured ports": ("ssh-lockout", Level.ERROR, {}, {"inbound_ports": (ALL_PORTS,)}),
    "saved rules that refuse": ("saved-rules", Level.ERROR, {"saved": {"/etc/nftables.conf": SAVED}}, {}),
    "saved rules": (
        "saved-rules",
        Level.WARNING,
        {"saved": {"/etc/nftables.conf": SAVED_OPEN}},
        {},
    ),
    "Cilium's interface": ("cilium-socket-lb", Level.WARNING, {"interfaces": frozenset({"lo", "cilium_host"})}, {}),
    "nscd": ("dns-cache", Level.WARNING, {"caches": frozenset({"nscd"})}, {}),
    "resolved's cache": (
        "dns-cache",
        Level.WARNING,
        {"caches": frozenset({"systemd-resolved"}), "forwarders": {"systemd-resolved": ()}, **AT_THE_STUB},
        {"dns_servers": servers("127.0.0.53")},
    ),
    "a cache soon after install": (
        "dns-cache",
        Level.WARNING,
        {"caches": frozenset({"nscd"}), **_installed(*Family, age_s=60)},
        {},
    ),
}
SOUND_AS_WELL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing special": ({}, {}),
    "what could not be looked at": ({"chains": None, "legacy_rules": None, "nft_rules": None, "refused": None}, {}),
    "SSH left alone": ({}, {"inbound_ports": (ALL_PORTS,), "exclude_inbound_ports": ports(22)}),
    "DNS before D-Bus": ({"hosts_line": ("files", "dns", "resolve")}, {}),
    "a family that is left out has no route": (
        {"ways": {ip_address(LISTED[1]): None, ip_address("2001:2::1"): None}},
        {"families": (Family.IPV4,)},
    ),
    "a resolv.conf that lists what is captured": (
        {
            "known": Known(
                standing=Standing(Installed(spec(resolv_conf=RESOLV_CONF), frozenset(Family), None)),
                nameservers=Nameservers(path=RESOLV_CONF, servers=servers(*LISTED)),
            )
        },
        {},
    ),
    "a heartbeat in the one family that is captured": (_installed(Family.IPV4, families=(Family.IPV4,)), {}),
    "a pool by any interface": ({"ways": {ip_address("240.240.0.1"): Way("eth0", local=False)}}, {}),
    "a pool by lo, which is captured": (
        {"ways": {ip_address("240.240.0.1"): Way("lo", local=False)}},
        {"outbound_cidrs": (*POOLS, ip_network("127.0.0.0/8"))},
    ),
    "a pool by lo, and left alone": (
        {"ways": {ip_address("240.240.0.1"): Way("lo", local=False)}},
        {"outbound_cidrs": (ip_network("100.99.0.0/16"),), "pool_rest": PoolRest.DIRECT},
    ),
    "a cache that has forgotten since": (
        {"caches": frozenset({"nscd"}), **_installed(*Family, age_s=3 * 3600)},
        {},
    ),
    "D-Bus to nobody": ({"hosts_line": ("files", "resolve", "dns")}, {}),
    "somebody else's port of another address": (
        {"listeners": (Listener("udp", ip_address("10.0.0.2"), 15053, 997),)},
        {},
    ),
    "a socket that root opened, and the proxy has": (
        {"listeners": ROOTS, "programs_at": {("udp", 15053): (Program(7, 1337, "meshdns"),)}},
        {},
    ),
    "a socket that systemd will hand over": (
        {"listeners": ROOTS, "programs_at": {("udp", 15053): (Program(1, 0, "systemd"),)}},
        {},
    ),
    "a socket of root's that nobody may look at": ({"listeners": ROOTS}, {}),
    "a pool that lives elsewhere, and is left alone": (
        {"pool_routes": ((ip_network("240.0.0.0/4"), "eth1"),), "ways": {ip_address("240.240.0.1"): None}},
        {"outbound_cidrs": (ip_network("100.99.0.0/16"),), "pool_rest": PoolRest.DIRECT},
    ),
    "a stub whose user is excluded": (
        {"forwarders": UPSTREAMS, **AT_THE_STUB},
        {**STUB, "exclude_uids": (991,)},
    ),
    "a stub whose own list is followed": (
        {"forwarders": UPSTREAMS, **AT_THE_STUB},
        {**STUB, "resolv_conf": "/run/systemd/resolve/resolv.conf"},
    ),
    "D-Bus to somebody who asks captured servers": (
        {"forwarders": UPSTREAMS, "hosts_line": ("files", "resolve", "dns")},
        {"dns_servers": servers("10.0.0.1")},
    ),
    "a stub that asks others": (
        {"forwarders": {"systemd-resolved": (ip_address("10.9.9.9"),)}, **AT_THE_STUB},
        {"dns_servers": servers("127.0.0.53")},
    ),
}


def _examined(facts: dict[str, Any], wanted: dict[str, Any]) -> list[tuple[str, Level]]:
    found = examine(replace(SOUND, **facts), spec(**wanted))
    assert all(one.diagnosis.cause and one.diagnosis.fix for one in found)
    return [(one.id, one.diagnosis.level) for one in found]


@pytest.mark.parametrize("case", SICK)
def test_finds(case: str) -> None:
    """What is wrong is found under its id, at its level, and nothing else is."""
    name, level, facts, wanted = SICK[case]
    assert _examined(facts, wanted) == [(name, level)]


@pytest.mark.parametrize("case", SOUND_AS_WELL)
def test_finds_nothing(case: str) -> None:
    """What is no hindrance is no finding."""
    assert _examined(*SOUND_AS_WELL[case]) == []


def test_every_check_is_tried() -> None:
    """No check stands in the table that no case here makes speak."""
    assert set(CHECKS) == {name for name, *_ in SICK.values()}
