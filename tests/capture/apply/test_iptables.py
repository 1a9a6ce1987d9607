"""Installing with iptables: all tables or none, the same again, nobody else's rules touched, and the switch works."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from capture_cases import CASES
from capturing import APP, LISTED, PROXY, Probe, World, spec, world
from namespaces import Namespace, namespace

from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import inspect, install, new_record, uninstall
from meshdns.capture.dialects.iptables.backend import Programs, Variant
from meshdns.capture.dialects.iptables.change import Change
from meshdns.capture.dialects.iptables.save import Tables
from meshdns.capture.dialects.iptables.transaction import IptablesBackend, Refusal
from meshdns.capture.dialects.observed import NOTHING
from meshdns.capture.errors import ApplyError, PreflightError, RollbackError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Chain, Hook, Match, Protocol, Refuse, Rule, RuleSet, Stage, among_ports
from meshdns.capture.policy.simulate import Fate
from meshdns.capture.policy.spec import CaptureSpec, Family, Ports
from meshdns.capture.system import runner

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

RESOLVER = Path(__file__).parents[2] / "beating_resolver.py"
OTHERS = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -p tcp -m tcp --dport 8443 -m comment --comment "nat-dns-4 isn't \\"ours\\"" -j REDIRECT --to-ports 443
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:ufw-before-output - [0:0]
-A OUTPUT -j ufw-before-output
-A ufw-before-output -o lo -j ACCEPT
COMMIT
"""


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace, and one variant of iptables in it."""

    pod: Namespace
    variant: Variant

    @property
    def backend(self) -> IptablesBackend:
        return IptablesBackend(f"iptables-{self.variant}", Programs(self.variant))

    def install(self, wanted: CaptureSpec) -> bool:
        return self.pod.call(lambda: install(self.backend, new_record(wanted, self.backend, "1", 1000)).changed)

    def uninstall(self) -> bool:
        return self.pod.call(lambda: uninstall(self.backend))

    def condition(self) -> Condition:
        return self.pod.call(lambda: inspect(self.backend)).condition

    def rules(self) -> str:
        """Return all rules of both families, in order, without counters and dates."""
        saved = [self.pod.run(f"{name}-{self.variant}-save").stdout for name in ("iptables", "ip6tables")]
        return re.sub(r"^#.*\n", "", re.sub(r"\[\d+:\d+\]", "[0:0]", "\n".join(saved)), flags=re.MULTILINE)

    def other_rules(self) -> list[str]:
        """Return the rules of everybody else."""
        return [line for line in self.rules().splitlines() if line.startswith("-A") and "MESHDNS_" not in line]


@pytest.fixture(params=["legacy", "nft"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with namespace() as pod:
        yield Host(pod, request.param)


def test_installing_again_changes_nothing(host: Host) -> None:
    """The second install of a configuration finds it in place; the rules are the same to the letter."""
    assert host.install(CASES["everything"])
    once = host.rules()
    assert not host.install(CASES["everything"])
    assert host.rules() == once
    assert host.condition() is Condition.SAME


def test_a_smaller_configuration_leaves_nothing_of_a_larger_one(host: Host) -> None:
    """Installed over another, also over one of more families, a configuration is what it would have been alone."""
    host.install(CASES["everything"])
    host.install(CASES["ipv4-only"])
    assert host.condition() is Condition.SAME
    assert set(re.findall(r"MESHDNS_\w+", host.rules())) == {
        f"MESHDNS_{name}_2" for name in ("ZONE", "BEAT_OUT", "BEAT_IN", "NAT", "REST", "ABOUT")
    }
    assert "-6" not in host.rules()


def test_uninstall_needs_no_configuration(host: Host) -> None:
    """Whatever was installed, and whatever happened to it since: nothing of ours stays, and twice is fine."""
    host.install(CASES["everything"])
    text = (
        "*nat\n:MESHDNS_OLD - [0:0]\n:MINE - [0:0]\n-A MINE -j MESHDNS_NAT_1\n-A MESHDNS_NAT_1 -j MESHDNS_OLD\nCOMMIT\n"
    )
    host.pod.run(f"iptables-{host.variant}-restore", "--noflush", stdin=text)
    assert host.uninstall()
    assert "MESHDNS" not in host.rules()
    assert not [line for line in host.rules().splitlines() if line.startswith("-A")]
    assert not host.uninstall()


def test_other_peoples_rules_are_not_touched(host: Host) -> None:
    """Rules of others stay to the letter and in order, are no drift, and come behind our jump."""
    host.pod.run(f"iptables-{host.variant}-restore", stdin=OTHERS)
    before = host.other_rules()
    host.install(spec())
    assert host.other_rules() == before
    assert host.condition() is Condition.SAME
    output = [line for line in host.rules().splitlines() if line.startswith("-A OUTPUT") and "ip6" not in line]
    assert all("MESHDNS_" in line for line in output[:3])
    host.install(CASES["everything"])
    host.uninstall()
    assert host.other_rules() == before


def test_reading_creates_nothing(host: Host) -> None:
    """Looking at a namespace where nothing is installed leaves it without a table."""
    assert host.pod.call(host.backend.read) == NOTHING
    assert not host.uninstall()
    assert host.pod.ruleset() == ""
    for name in ("ip_tables_names", "ip6_tables_names"):
        assert host.pod.run("cat", f"/proc/net/{name}").stdout == ""


def test_what_was_recorded_comes_back(host: Host) -> None:
    """Version, time, backend, fingerprint and configuration are read from the kernel as they were put there."""
    record = new_record(CASES["everything"], host.backend, "1.2.3", 1_700_000_000)
    host.pod.call(lambda: install(host.backend, record))
    assert host.pod.call(lambda: inspect(host.backend)).record == record


LOOKUPS = Match(protocols=(Protocol.UDP,), destination_ports=among_ports([Ports(53, 53)]))
REFUSED = RuleSet(
    (Family.IPV4, Family.IPV6),
    (
        *(chain for chain in plan(spec()).chains if chain.stage in {Stage.ZONE, Stage.COUNT}),
        Chain("nat", Hook.OUTPUT, Stage.TRANSLATE, (Rule("nat-wrong", "", LOOKUPS, Refuse()),)),
    ),
)
"""Kernels refuse packets in the table `filter` only; what comes before it, the zones, is all right."""


@pytest.mark.parametrize("before", [None, "closed"])
def test_a_refusal_names_the_rule_and_changes_nothing(host: Host, before: str | None) -> None:
    """A bad rule in `nat`, after a good table `raw`: the rule's id is told, and what was there is there still."""
    host.pod.run(f"iptables-{host.variant}-restore", stdin=OTHERS)
    if before:
        host.install(CASES[before])
    old = [line for line in host.rules().splitlines() if line.startswith("-A") or "MESHDNS" in line]
    with pytest.raises(ApplyError, match=r"cannot load rule nat-wrong: .*nothing was changed") as refused:
        host.pod.call(lambda: host.backend.replace(REFUSED, (), NOTHING, 0))
    assert "\n" not in str(refused.value)
    assert [line for line in host.rules().splitlines() if line.startswith("-A") or "MESHDNS" in line] == old


@dataclass
class Failing:
    """Programs of which the one for IPv6 refuses what changes a table; `for_good`: from then on the other does too."""

    programs: Programs
    for_good: bool = False
    failed: list[Family] = field(default_factory=list)

    def tables(self, family: Family) -> Tables:
        return self.programs.tables(family)

    def carry_out(self, family: Family, changes: Sequence[Change]) -> Refusal | None:
        if (family is Family.IPV6 and not self.failed) or (self.failed and self.for_good):
            self.failed.append(family)
            return Refusal("out of memory", table=changes[-1].table)
        return self.programs.carry_out(family, changes)


@pytest.mark.parametrize("before", [None, "closed"])
def test_a_family_that_fails_takes_the_other_back(host: Host, before: str | None) -> None:
    """What was loaded for IPv4 is undone when IPv6 is refused."""
    if before:
        host.install(CASES[before])
    old = [line for line in host.rules().splitlines() if line.startswith("-A") or "MESHDNS" in line]
    failing = IptablesBackend("iptables", Failing(Programs(host.variant)))
    with pytest.raises(ApplyError, match="table filter: out of memory: nothing was changed"):
        host.pod.call(lambda: failing.replace(plan(CASES["everything"]), (), NOTHING, 0))
    assert [line for line in host.rules().splitlines() if line.startswith("-A") or "MESHDNS" in line] == old


def test_a_rollback_that_fails_is_said(host: Host) -> None:
    """Where the way back is refused too, the error is another one, and the next install mends it."""
    failing = IptablesBackend("iptables", Failing(Programs(host.variant), for_good=True))
    with pytest.raises(RollbackError, match="cannot roll back after table filter: out of memory"):
        host.pod.call(lambda: failing.replace(plan(spec()), (), NOTHING, 0))
    assert host.install(spec())
    assert host.condition() is Condition.SAME


def test_what_was_left_half_done_is_mended(host: Host) -> None:
    """Killed between two tables, an install leaves chains that the next install or uninstall takes away."""
    host.install(spec())
    half = (
        "*raw\n:MESHDNS_ZONE_2 - [0:0]\n-D OUTPUT 1\n-I OUTPUT -m comment --comment meshdns -j MESHDNS_ZONE_2\nCOMMIT\n"
    )
    host.pod.run(f"iptables-{host.variant}-restore", "--noflush", stdin=half)
    assert host.condition() is not Condition.SAME
    assert host.install(spec())
    assert host.condition() is Condition.SAME
    host.pod.run(f"ip6tables-{host.variant}", "-t", "nat", "-D", "OUTPUT", "1")
    assert host.condition() is not Condition.SAME
    host.uninstall()
    assert "MESHDNS" not in host.rules()


def test_a_missing_program_is_told(host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the programs: exit 3, and which package holds them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(runner, "BESIDES_PATH", ())
    with pytest.raises(PreflightError, match="not on PATH: install the package iptables"):
        host.install(spec())


@pytest.mark.parametrize("missing", ["net_admin", "net_raw"])
def test_a_missing_privilege_is_told(missing: str) -> None:
    """Legacy iptables wants CAP_NET_RAW beside CAP_NET_ADMIN, and says so by exit 3."""
    without = ["setpriv", f"--bounding-set=-{missing}", f"--inh-caps=-{missing}"]
    command = ["capture", "install", "--backend", "iptables-legacy", "--family", "ipv4", "--dns-servers", "10.0.0.1"]
    meshdns = str(Path(sys.executable).with_name("meshdns"))
    with namespace() as pod:
        done = pod.run(*without, meshdns, *command, check=False)
    assert done.returncode == 3
    assert f"CAP_{missing.upper()} is missing" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
def test_no_lookup_fails_that_is_sent_after_the_timeout(backend: str) -> None:
    """The switch: captured while the resolver beats, and answered by the nameserver soon after it is killed."""
    with world(resolver=False, backend=backend) as there:
        there.install(spec(heartbeat_timeout_s=1.0))
        with there.pod.running(sys.executable, str(RESOLVER), str(PROXY)) as resolver:
            deadline = time.monotonic() + 5
            while there.held().alive != frozenset(Family) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert [_lookup(there, server) for server in LISTED] == ["resolver", "resolver"]
            resolver.kill()
            time.sleep(1.5)
            assert there.held().alive == frozenset()
            assert [_lookup(there, server) for server in LISTED] == ["direct", "direct"]


def _lookup(there: World, server: str) -> str:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with there.pod.socket(family, socket.SOCK_DGRAM, uid=APP) as client:
        client.sendto(b"who?", (server, 53))
        return client.recv(64).decode()


@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
def test_replacing_under_load_loses_and_leaks_nothing(backend: str) -> None:
    """During replacements every lookup is answered, and every one by the resolver."""
    probes = [Probe("lookup", server, 53, Protocol.UDP, APP) for server in LISTED]
    with world(backend=backend) as there:
        there.install(CASES["defaults"])
        there.beat()
        fates: list[tuple[Fate, int | None]] = []
        stop = threading.Event()

        def look_up() -> None:
            while not stop.is_set():
                fates.extend(there.send(probe) for probe in probes)

        sender = threading.Thread(target=look_up)
        sender.start()
        try:
            for turn in range(10):
                there.install(CASES["defaults" if turn % 2 else "closed"])
        finally:
            stop.set()
            sender.join()
        assert len(fates) > 20
        assert set(fates) == {(Fate.REDIRECT, 15053)}


ONLY_BY_NFT = """
table ip nat {
    set others { type ipv4_addr; }
    chain OUTPUT { type nat hook output priority -100; policy accept; tcp dport { 8443, 90 } redirect to :443; }
}
"""


def test_a_table_that_only_nft_can_show_is_not_written_to() -> None:
    """What could not be read back is not loaded; what is hidden later is drift."""
    with namespace() as pod:
        host = Host(pod, "nft")
        pod.run("nft", "-f", "-", stdin=ONLY_BY_NFT)
        before = pod.ruleset()
        assert not host.uninstall()
        with pytest.raises(PreflightError, match="its table nat holds what only nft shows"):
            host.install(spec())
        assert pod.ruleset() == before
        pod.run("nft", "flush", "ruleset")
        host.install(spec())
        pod.run("nft", "add", "rule", "ip", "nat", "OUTPUT", "tcp", "dport", "{ 8443, 90 }", "redirect", "to", ":443")
        assert host.condition() is Condition.FOREIGN
        with pytest.raises(PreflightError, match="its table nat holds what only nft shows"):
            host.uninstall()
