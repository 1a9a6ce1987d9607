"""Verification passes where capture works, and names what does not work where a rule, a beat or a route is gone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest
from capturing import LISTED, TRANSPARENT, ports, servers, spec
from namespaces import Namespace, namespace, veth
from proving import MESHDNS, capture, delete_rules, pod, resolver

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.install import install, new_record
from meshdns.capture.dialects.nft.backend import NftBackend
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.spec import ALL_PORTS, CaptureSpec, Family, InboundMode, PoolRest
from meshdns.capture.prove.judge import Finding, Outcome
from meshdns.capture.prove.verify import Question, verify

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: other users' packets")

SUFFIX = "probe.meshdns.invalid"
BACKEND = NftBackend()
RECORDED = Question(None, servers(*LISTED), SUFFIX, wait_s=0.8)
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
TIMED = spec(heartbeat_timeout_s=2.0)
ONE_FAMILY = replace(TIMED, families=(Family.IPV4,))


@pytest.fixture(scope="module")
def there() -> Iterator[Namespace]:
    with pod() as made, resolver(made):
        yield made


def _install(there: Namespace, wanted: CaptureSpec) -> None:
    there.call(lambda: install(BACKEND, new_record(wanted, BACKEND, "1", 1000)))


def _verify(there: Namespace, question: Question = RECORDED, *, rules_only: bool = False) -> list[Finding]:
    return there.call(lambda: list(verify(BACKEND, question, rules_only=rules_only)))


def _failed(findings: list[Finding]) -> str:
    return "\n".join(f"{one.step}: {one.why}" for one in findings if one.outcome is Outcome.FAILED)


WORKING = {
    "defaults": TIMED,
    "ipv4 only": ONE_FAMILY,
    "every server": replace(TIMED, dns_servers=servers("0.0.0.0/0", "::/0")),
    "everything outbound": replace(
        TIMED, outbound_cidrs=EVERYTHING, exclude_outbound_cidrs=(ip_network("10.0.0.0/24"), ip_network("fd00::/64"))
    ),
    "no dns": replace(TIMED, dns=False, dns_servers=()),
    "port 53 excluded": replace(TIMED, exclude_outbound_ports=ports(53)),
    "scoped servers": replace(TIMED, dns_servers=servers(f"{LISTED[0]}%eth0", f"{LISTED[1]}%eth0")),
    "servers on a link": replace(TIMED, dns_servers=servers(*LISTED, "fe80::53", "fe80::54%eth0")),
    "a group only": replace(TIMED, owner_groups=(5000,), exclude_uids=(4000,)),
    "exclusions": replace(TIMED, exclude_owner_groups=(5000,), exclude_uids=(4000, 4001), proxy_mark=77),
    "pools direct": replace(TIMED, pool_rest=PoolRest.DIRECT),
}


@pytest.mark.parametrize("case", WORKING)
def test_passes_where_capture_works(there: Namespace, case: str) -> None:
    """Nothing fails and nothing is left out where rules, resolver and relay do their work."""
    _install(there, WORKING[case])
    findings = _verify(there)
    assert not [one for one in findings if one.outcome is not Outcome.PROVEN]


BROKEN = {
    "nat-dns-4": "udp lookup at 10.96.0.10 as uid 65534: it did not reach the resolver",
    "zone-dns-4": "udp lookup at 10.96.0.10 as uid 65534: it did not reach the resolver",
    "zone-answer-4": "udp lookup at 10.96.0.10 as uid 65534: it did not reach the resolver",
    "nat-proxy-uid": "tcp lookup at 10.96.0.10 as the proxy (uid 1337): it reached the resolver, and must not",
    "nat-proxy-gid": "tcp lookup at 10.96.0.10 as the proxy (gid 1337): it reached the resolver, and must not",
    "zone-proxy-uid": "(uid 1337), from the port of a captured lookup: it reached the resolver, and must not",
    "zone-proxy-gid": "(gid 1337), from the port of a captured lookup: it reached the resolver, and must not",
    "nat-out-4": "relay at 240.240.255.255: it did not reach the relay",
    "rest-pool-4": "datagram to pool address 240.240.255.255: it was not refused",
}


@pytest.mark.parametrize("rule", BROKEN)
def test_packets_tell_which_rule_is_gone(there: Namespace, rule: str) -> None:
    """With one rule removed by hand, a packet meets another fate, and verification says which."""
    _install(there, ONE_FAMILY)
    delete_rules(there, rule)
    failed = _failed(_verify(there))
    assert f"rule {rule}: it is missing" in failed
    assert BROKEN[rule] in failed


@pytest.mark.parametrize("backend", ["nft", "iptables-nft", "iptables-legacy"])
def test_each_rule_is_missed(backend: str) -> None:
    """Whichever rule is removed by hand: verification names it and says what it was for."""
    made, wanted = BACKENDS[backend](), TIMED if backend == "nft" else ONE_FAMILY
    with pod() as there:
        for rule in plan(wanted).rules():
            there.call(lambda: install(made, new_record(wanted, made, "1", 1000)))
            delete_rules(there, rule.id, backend=backend)
            findings = there.call(lambda: list(verify(made, RECORDED, rules_only=True)))
            assert _failed(findings) == f"rule {rule.id}: it is missing: {rule.why}"


ROUTING: dict[str, tuple[dict[str, object], str]] = {
    "a route by a link": ({"dns_servers": servers("fe80::53%eth0")}, "-6 route delete local ::1 dev eth0 table local"),
    "a rule of TPROXY": ({"inbound_ports": (ALL_PORTS,), "inbound_mode": InboundMode.TPROXY}, "rule delete table 133"),
}


@pytest.mark.parametrize("name", ROUTING)
def test_it_misses_what_diff_misses(there: Namespace, name: str) -> None:
    """Where rules are as they were and the routing that they need is not, verification fails with the lines of diff."""
    changes, damage = ROUTING[name]
    _install(there, replace(TIMED, **changes))  # type: ignore[arg-type]  # a table of any fields
    assert _failed(_verify(there, rules_only=True)) == ""
    there.run("ip", *damage.split())
    told = capture(there, "diff", check=False).stdout.splitlines()
    assert len(told) == 1
    assert _failed(_verify(there, rules_only=True)) == f"routing: expected (-) against live (+): {told[0]}"


def test_a_beat_that_is_not_counted_is_named(there: Namespace) -> None:
    """Without the rules that mark and count heartbeats the switch closes, and that is the first step to fail."""
    for rule in ("beat-mark-4", "beat-4"):
        _install(there, ONE_FAMILY)
        delete_rules(there, rule)
        while there.call(BACKEND.read).alive:
            time.sleep(0.1)
        findings = _verify(there)
        failed = [one.step for one in findings if one.outcome is Outcome.FAILED]
        assert failed[:2] == [f"rule {rule}", "heartbeat ipv4"]
        assert "udp lookup at 10.96.0.10 as uid 65534" in failed


def test_what_is_not_installed_cannot_work(there: Namespace) -> None:
    """Where nothing is installed, that is what is said, once."""
    capture(there, "uninstall")
    assert _failed(_verify(there)) == "rules: nothing is installed: run `meshdns capture install`"


def test_a_server_without_a_route_is_named(there: Namespace) -> None:
    """A captured server that packets have no way to is a failure; rules see only what has a route."""
    there.run("ip", "route", "add", "unreachable", "10.99.0.1/32")
    _install(there, replace(ONE_FAMILY, dns_servers=servers(LISTED[0], "10.99.0.1")))
    assert "udp lookup at 10.99.0.1 as uid 65534: no route to 10.99.0.1" in _failed(_verify(there))


def test_a_pool_without_a_route_is_left_unchecked(there: Namespace) -> None:
    """What has no way to a pool proves nothing about it, and is no failure: leases are not answered everywhere."""
    there.run("ip", "route", "add", "unreachable", "240.240.0.0/16")
    _install(there, ONE_FAMILY)
    unproven = {one.step: one.outcome for one in _verify(there) if one.outcome is not Outcome.PROVEN}
    there.run("ip", "route", "delete", "unreachable", "240.240.0.0/16")
    assert unproven == {
        "relay at 240.240.255.255": Outcome.UNCHECKED,
        "datagram to pool address 240.240.255.255": Outcome.UNCHECKED,
    }


def test_an_excluded_network_without_a_route_is_left_unchecked(there: Namespace) -> None:
    """What could not be sent to an excluded destination does not prove that it goes direct."""
    excluded = (ip_network("10.98.0.0/24"), ip_network("10.0.0.0/24"))
    there.run("ip", "route", "add", "unreachable", "10.98.0.0/24")
    _install(there, replace(ONE_FAMILY, outbound_cidrs=EVERYTHING, exclude_outbound_cidrs=excluded))
    unproven = {one.step: one.outcome for one in _verify(there) if one.outcome is not Outcome.PROVEN}
    there.run("ip", "route", "delete", "unreachable", "10.98.0.0/24")
    assert unproven == {"tcp to excluded 10.98.0.0/24 goes direct": Outcome.UNCHECKED}


LED_ASTRAY = {
    "by lo": (("240.240.0.0/16", "dev", "lo"), {}, "nat-local-4"),
    "to this machine": (("local", "240.240.0.0/16", "dev", "lo"), {}, "nat-local-4"),
    "by an excluded interface": (
        ("240.240.0.0/16", "dev", "eth0"),
        {"exclude_interfaces": ("eth0",), "dns": False, "dns_servers": ()},
        "nat-exclude-interface",
    ),
}


@pytest.mark.parametrize("name", LED_ASTRAY)
def test_a_pool_that_leaves_by_the_wrong_interface_fails(there: Namespace, name: str) -> None:
    """Where the pool is captured, but not by the interface of its route, the rule that lets packets pass is named."""
    route, changes, rule = LED_ASTRAY[name]
    there.run("ip", "route", "add", *route)
    _install(there, replace(ONE_FAMILY, **changes))  # type: ignore[arg-type]  # a table of any fields
    failed = _failed(_verify(there))
    there.run("ip", "route", "delete", *route)
    for step in ("relay at 240.240.255.255", "datagram to pool address 240.240.255.255"):
        assert f"{step}: the rules leave it alone: {rule}: " in failed


def test_the_command_says_what_failed_and_exits_with_126(there: Namespace) -> None:
    """The command prints a line for each step, the first failure on stderr, and exits with 126; 0 when all is well."""
    listed = [f"--dns-servers={address}" for address in LISTED]
    capture(there, "install", *listed)
    good = capture(there, "verify")
    assert {line.split()[0] for line in good.stdout.splitlines()} == {"ok"}
    delete_rules(there, "nat-dns-6")
    bad = capture(there, "verify", "--rules-only", check=False)
    assert bad.returncode == 126
    assert bad.stderr.startswith("meshdns: cannot verify capture: rule nat-dns-6: it is missing")
    assert len(bad.stderr.splitlines()) == 1


def test_without_privilege_it_says_what_it_could_not_check(there: Namespace) -> None:
    """An ordinary user's own lookups are checked; who they may not be, and rules they may not read, are listed."""
    _install(there, TIMED)
    owner = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
    may_read = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    asked = (*(f"--dns-servers={one}" for one in LISTED), "--exclude-outbound-cidr=10.0.0.0/24")
    done = there.run(*owner, *may_read, MESHDNS, "capture", "verify", *asked)
    lines = done.stdout.splitlines()
    assert [
        line for line in lines if line.startswith("unchecked tcp to excluded 10.0.0.0/24 goes direct: only its rule's")
    ]
    assert "unchecked counters: the rules cannot be read" in lines
    assert f"ok        udp lookup at {LISTED[0]} as uid 1000, ourselves" in lines
    assert [line for line in lines if "unchecked lookups as the proxy (uid 1337)" in line]


@pytest.mark.parametrize("mode", InboundMode)
def test_inbound_is_proven_by_what_came_in(mode: InboundMode) -> None:
    """Until a connection came from outside, inbound capture is not proven; without a listener it fails."""
    wanted = replace(ONE_FAMILY, inbound_ports=(ALL_PORTS,), inbound_mode=mode)

    def inbound(made: Namespace) -> Finding:
        return next(one for one in _verify(made) if one.step == "inbound ipv4")

    with pod() as there, resolver(there), namespace() as neighbour:
        veth(there, "eth1", ["10.9.0.2/24"], neighbour, "eth0", ["10.9.0.1/24"])
        _install(there, wanted)
        assert inbound(there).outcome is Outcome.FAILED
        assert "nobody listens for what comes in on port 15006" in inbound(there).why
        with there.socket(socket.AF_INET, socket.SOCK_STREAM) as proxy:
            proxy.setsockopt(*TRANSPARENT[socket.AF_INET], 1)
            proxy.bind(("0.0.0.0", 15006))
            proxy.listen()
            assert inbound(there).outcome is Outcome.UNCHECKED
            assert inbound(there).why.startswith("not proven: ")
            with neighbour.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                client.connect(("10.9.0.2", 7777))
            assert inbound(there).outcome is Outcome.PROVEN
