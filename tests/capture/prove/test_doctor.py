"""Each thing that keeps capture from working has a finding of its own, with cause and fix; a sound machine has none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from capturing import LISTED, ports, servers, spec
from namespaces import Namespace
from proving import MESHDNS, capture, pod

from meshdns.capture.policy.spec import ALL_PORTS, Family
from meshdns.capture.prove.doctor import CHECKS, Level, examine
from meshdns.capture.prove.facts import Facts
from meshdns.capture.system.listeners import Listener

SOUND = Facts(
    uid=0,
    capabilities=frozenset({"NET_ADMIN"}),
    kernel=(6, 1, 0),
    programs={"nft": (1, 0, 6), "iptables-nft-restore": (1, 8, 9), "iptables-legacy-restore": None},
    refused="",
    chains=frozenset(),
    legacy_rules=0,
    nft_rules=0,
    hosts_line=("files", "dns"),
    interfaces=frozenset({"lo", "eth0"}),
    lo_up=True,
    listeners=(Listener("udp", ip_address("127.0.0.1"), 15053, 1337), Listener("tcp", ip_address("::1"), 15001, 1337)),
    reachable={},
    pool_routes=(),
    forwarders={},
    caches=frozenset(),
    saved={},
    ssh_ports=frozenset({22}),
    unseen=(),
)
STUB = {"dns_servers": servers("127.0.0.53", "10.0.0.1")}
UPSTREAMS = {"systemd-resolved": (ip_address("10.0.0.1"),)}
SAVED = "table inet meshdns {\n chain rest {\n meta nfproto != @alive ip daddr 10.0.0.1 udp dport 53 reject\n }\n}\n"

SICK: dict[str, tuple[str, Level, dict[str, Any], dict[str, Any]]] = {
    "root without the capability": ("capability", Level.ERROR, {"capabilities": frozenset()}, {}),
    "an ordinary user": ("capability", Level.WARNING, {"capabilities": frozenset(), "uid": 1000}, {}),
    "a kernel of long ago": ("kernel-old", Level.ERROR, {"kernel": (4, 19, 0)}, {}),
    "no program at all": ("program-missing", Level.ERROR, {"programs": {"nft": None}}, {}),
    "an nft of long ago": ("program-missing", Level.WARNING, {"programs": {"nft": (0, 9, 8)}}, {}),
    "a kernel without redirect": ("module-missing", Level.ERROR, {"refused": "line 3: redirect: No such file"}, {}),
    "rules in both dialects": ("legacy-and-nft", Level.WARNING, {"legacy_rules": 3, "nft_rules": 5}, {}),
    "Docker's chain": ("docker-dns", Level.WARNING, {"chains": frozenset({"ip nat DOCKER_OUTPUT"})}, {}),
    "Docker's nameserver": ("docker-dns", Level.WARNING, {}, {"dns_servers": servers("127.0.0.11")}),
    "Istio's chain": ("other-mesh", Level.WARNING, {"chains": frozenset({"ip nat ISTIO_OUTPUT"})}, {}),
    "Istio's table": ("other-mesh", Level.WARNING, {"chains": frozenset({"inet istio-proxy-nat output"})}, {}),
    "Linkerd's legacy chain": ("other-mesh", Level.WARNING, {"chains": frozenset({"PROXY_INIT_OUTPUT"})}, {}),
    "a stub without its daemon": ("resolved-stub", Level.WARNING, {}, {"dns_servers": servers("127.0.0.53")}),
    "D-Bus before DNS": ("nsswitch-bypass", Level.WARNING, {"hosts_line": ("files", "resolve", "dns")}, {}),
    "D-Bus to somebody who asks others": (
        "nsswitch-bypass",
        Level.WARNING,
        {"forwarders": {"systemd-resolved": (ip_address("10.9.9.9"),)}, "hosts_line": ("files", "resolve", "dns")},
        {},
    ),
    "no DNS at all": ("nsswitch-bypass", Level.WARNING, {"hosts_line": ("files",)}, {}),
    "a stub that asks a captured server": ("dns-loop", Level.ERROR, {"forwarders": UPSTREAMS}, STUB),
    "a forwarder where all is captured": (
        "dns-loop",
        Level.ERROR,
        {"forwarders": UPSTREAMS},
        {"dns_servers": servers("0.0.0.0/0")},
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
    "a nameserver without a way": ("no-route", Level.ERROR, {"reachable": {ip_address(LISTED[0]): False}}, {}),
    "a pool without a way": ("no-route", Level.ERROR, {"reachable": {ip_address("240.240.0.1"): False}}, {}),
    "no loopback": ("lo-down", Level.ERROR, {"lo_up": False}, {}),
    "SSH among the captured ports": ("ssh-lockout", Level.ERROR, {}, {"inbound_ports": (ALL_PORTS,)}),
    "saved rules that refuse": ("saved-rules", Level.ERROR, {"saved": {"/etc/nftables.conf": SAVED}}, {}),
    "saved rules": ("saved-rules", Level.WARNING, {"saved": {"/etc/nftables.conf": SAVED.replace("!= ", "")}}, {}),
    "Cilium's interface": ("cilium-socket-lb", Level.WARNING, {"interfaces": frozenset({"lo", "cilium_host"})}, {}),
    "nscd": ("dns-cache", Level.WARNING, {"caches": frozenset({"nscd"})}, {}),
    "resolved's cache": (
        "dns-cache",
        Level.WARNING,
        {"caches": frozenset({"systemd-resolved"}), "forwarders": {"systemd-resolved": ()}},
        {"dns_servers": servers("127.0.0.53")},
    ),
}
SOUND_AS_WELL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing special": ({}, {}),
    "what could not be looked at": ({"chains": None, "legacy_rules": None, "nft_rules": None, "refused": None}, {}),
    "SSH left alone": ({}, {"inbound_ports": (ALL_PORTS,), "exclude_inbound_ports": ports(22)}),
    "DNS before D-Bus": ({"hosts_line": ("files", "dns", "resolve")}, {}),
    "a family that is left out has no route": (
        {"reachable": {ip_address(LISTED[1]): False, ip_address("2001:2::1"): False}},
        {"families": (Family.IPV4,)},
    ),
    "sockets that systemd holds": ({"listeners": (Listener("udp", ip_address("::1"), 15053, 0),)}, {}),
    "a stub whose own list is followed": (
        {"forwarders": UPSTREAMS},
        {**STUB, "resolv_conf": "/run/systemd/resolve/resolv.conf"},
    ),
    "D-Bus to somebody who asks captured servers": (
        {"forwarders": UPSTREAMS, "hosts_line": ("files", "resolve", "dns")},
        {"dns_servers": servers("10.0.0.1")},
    ),
    "a stub that asks others": (
        {"forwarders": {"systemd-resolved": (ip_address("10.9.9.9"),)}},
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


root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
OPTIONS = [f"--dns-servers={address}" for address in LISTED]
OTHER = 4242
ORDINARY = (
    *("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
"""With the right to read, because the interpreter may lie where only root can see it."""


@pytest.fixture
def there() -> Iterator[Namespace]:
    with pod() as made:
        yield made


def _nft(there: Namespace, text: str) -> None:
    there.run("nft", "-f", "-", stdin=text)


def _both_dialects(there: Namespace) -> None:
    there.run("iptables-legacy", "-w", "5", "-A", "OUTPUT", "-j", "ACCEPT")
    _nft(there, "table ip x {\n chain y {\n accept\n }\n }\n")


SEEN: dict[str, tuple[str, Callable[[Namespace], object]]] = {
    "another mesh": ("other-mesh", lambda pod: _nft(pod, "table ip nat {\n chain ISTIO_OUTPUT {\n }\n }\n")),
    "both dialects": ("legacy-and-nft", _both_dialects),
    "pool routed": ("pool-routed", lambda pod: pod.run("ip", "route", "add", "240.0.0.0/4", "dev", "eth0")),
    "pool of IPv6 routed": ("pool-routed", lambda pod: pod.run("ip", "route", "add", "2001:2::/48", "dev", "eth0")),
    "no way to a server": ("no-route", lambda pod: pod.run("ip", "route", "add", "unreachable", f"{LISTED[0]}/32")),
    "lo down": ("lo-down", lambda pod: pod.run("ip", "link", "set", "lo", "down")),
}


@root
@pytest.mark.parametrize("case", SEEN)
def test_sees_it_on_a_real_machine(there: Namespace, case: str) -> None:
    """What is wrong in a namespace is seen there."""
    name, spoil = SEEN[case]
    spoil(there)
    done = capture(there, "doctor", "--json", *OPTIONS, check=False)
    assert name in {finding["id"] for finding in json.loads(done.stdout)["findings"]}


@root
def test_a_port_of_somebody_else_is_an_error(there: Namespace) -> None:
    """A listener of another user at the DNS port is found, with its uid, and the command exits with 1."""
    with there.socket(2, 1, uid=OTHER) as other:
        other.bind(("127.0.0.1", 15053))
        other.listen()
        done = capture(there, "doctor", *OPTIONS, check=False)
    assert done.returncode == 1
    assert "error port-taken: tcp port 15053, the resolver's, belongs to uid 4242" in done.stdout


@root
def test_without_nft_nobody_blames_the_kernel(there: Namespace, tmp_path: Path) -> None:
    """Where nft is missing the rules cannot be tried: that is listed as unseen, and no error of the kernel's."""
    without = (
        'cp -a $(find /usr/sbin -name "*tables*") "$0"; mount --bind "$0" /usr/sbin; '
        f"exec {MESHDNS} capture doctor --json {' '.join(OPTIONS)}"
    )
    done = there.run("unshare", "--mount", "sh", "-euc", without, str(tmp_path), check=False)
    told = json.loads(done.stdout)
    assert "module-missing" not in {finding["id"] for finding in told["findings"]}
    assert any("whether this kernel takes the rules: cannot run nft" in what for what in told["unseen"])
    with_nft = json.loads(capture(there, "doctor", "--json", *OPTIONS, check=False).stdout)
    assert not any("whether this kernel takes the rules" in what for what in with_nft["unseen"])


@root
def test_it_goes_by_what_is_installed(there: Namespace) -> None:
    """Without options the recorded ones count; given ones stand in their place; who may not read any accuses nobody."""
    capture(there, "install", *OPTIONS, f"--proxy-uid={OTHER}")
    with there.socket(2, 1, uid=OTHER) as resolver:
        resolver.bind(("127.0.0.1", 15053))
        resolver.listen()
        assert "port-taken" not in capture(there, "doctor", check=False).stdout
        assert "port-taken" in capture(there, "doctor", *OPTIONS, check=False).stdout
        unprivileged = there.run(*ORDINARY, MESHDNS, "capture", "doctor", check=False)
    assert "error port-taken" not in unprivileged.stdout
    assert "not looked at: what is installed, so options and defaults count: " in unprivileged.stdout
    assert (
        f"not looked at: whether that is as it should be: tcp port 15053, the resolver's, belongs to uid {OTHER}"
        in (unprivileged.stdout)
    )


@root
def test_an_ordinary_user_may_ask(there: Namespace) -> None:
    """Without privilege it looks at what it may, lists the rest, and that is no error; nothing has changed."""
    before = there.ruleset()
    done = there.run(*ORDINARY, MESHDNS, "capture", "doctor", "--json", *OPTIONS)
    told = json.loads(done.stdout)
    assert "capability" in {finding["id"] for finding in told["findings"]}
    assert any("nf_tables" in what for what in told["unseen"])
    assert there.ruleset() == before
