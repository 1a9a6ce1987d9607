"""Installing, replacing and removing: all or nothing, the same again, and nobody else's rules touched."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from capture_cases import CASES
from capturing import APP, LISTED, SPEC, Probe, World, spec, world
from namespaces import Namespace, namespace

from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import Installation, inspect, install, new_record, uninstall
from meshdns.capture.dialects.nft.backend import NftBackend
from meshdns.capture.dialects.observed import NOTHING, Observed
from meshdns.capture.errors import ApplyError, PreflightError, RollbackError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Chain, Hook, Match, Protocol, Redirect, Rule, RuleSet, Stage
from meshdns.capture.policy.simulate import Fate
from meshdns.capture.policy.spec import MAX_HEARTBEAT_TIMEOUT_S, CaptureSpec, Family, InboundMode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

BACKEND = NftBackend()
OTHERS = """
table inet firewall {
    set blocked { type ipv4_addr; elements = { 192.0.2.1 }
    }
    chain input {
        type filter hook input priority 0; policy accept;
        ip saddr @blocked drop comment "nat-dns-4"
    }
}
table ip nat {
    chain OUTPUT {
        type nat hook output priority -100; policy accept;
        tcp dport 8443 redirect to :443
    }
}
"""


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def _install(pod: Namespace, wanted: CaptureSpec, backend: NftBackend = BACKEND) -> bool:
    return pod.call(lambda: install(backend, new_record(wanted, backend, "1", 1000)).changed)


def _inspect(pod: Namespace) -> Installation:
    return pod.call(lambda: inspect(BACKEND))


@pytest.mark.parametrize("case", CASES)
def test_installing_again_changes_nothing(pod: Namespace, case: str) -> None:
    """The second install of a configuration finds it in place; the ruleset is the same to the letter."""
    assert _install(pod, CASES[case])
    once = pod.ruleset()
    assert not _install(pod, CASES[case])
    assert pod.ruleset() == once
    assert _inspect(pod).condition is Condition.SAME


def test_a_smaller_configuration_leaves_nothing_of_a_larger_one(pod: Namespace) -> None:
    """Installed over another, a configuration is what it would have been alone."""
    _install(pod, CASES["defaults"])
    alone = pod.ruleset()
    _install(pod, CASES["everything"])
    assert pod.ruleset() != alone
    _install(pod, CASES["defaults"])
    assert pod.ruleset() == alone


def test_uninstall_needs_no_configuration(pod: Namespace) -> None:
    """Whatever was installed, and whatever happened to it since: nothing of ours stays, and twice is fine."""
    before = pod.ruleset()
    _install(pod, CASES["everything"])
    pod.run("nft", "add", "set", "inet", "meshdns", "other", "{ type mark; }")
    assert pod.call(lambda: uninstall(BACKEND))
    assert pod.ruleset() == before
    assert not pod.call(lambda: uninstall(BACKEND))


def test_other_peoples_rules_are_not_touched(pod: Namespace) -> None:
    """Rules of others stay to the letter, are no drift, and are no residue, even with comments that look like ours."""
    pod.run("nft", "-f", "-", stdin=OTHERS)
    before = pod.ruleset()
    _install(pod, spec())
    assert before in pod.ruleset()
    assert _inspect(pod).condition is Condition.SAME
    _install(pod, CASES["everything"])
    pod.call(lambda: uninstall(BACKEND))
    assert pod.ruleset() == before


def test_what_was_recorded_comes_back(pod: Namespace) -> None:
    """Version, time, backend, fingerprint and configuration are read from the kernel as they were put there."""
    record = new_record(CASES["everything"], BACKEND, "1.2.3", 1_700_000_000)
    pod.call(lambda: install(BACKEND, record))
    assert _inspect(pod).record == record


def test_a_fraction_of_a_second_is_a_change(pod: Namespace) -> None:
    """Nft shows whole seconds only; a configuration that differs in less is installed all the same."""
    _install(pod, spec(heartbeat_timeout_s=3.0))
    assert _install(pod, spec(heartbeat_timeout_s=3.5))
    assert not _install(pod, spec(heartbeat_timeout_s=3.5))


def test_the_longest_timeout_can_be_installed(pod: Namespace) -> None:
    """A week is more milliseconds than nft reads in one number."""
    longest = spec(heartbeat_timeout_s=MAX_HEARTBEAT_TIMEOUT_S)
    assert _install(pod, longest)
    assert not _install(pod, longest)


@pytest.mark.parametrize("case", CASES)
def test_a_saved_ruleset_loaded_again_is_no_drift(pod: Namespace, case: str) -> None:
    """`nft list ruleset`, flush and load, as nftables.service does, keep the installation recognisable."""
    wanted = replace(CASES[case], heartbeat_timeout_s=3.0)
    _install(pod, wanted)
    saved = pod.run("nft", "list", "ruleset").stdout
    pod.run("nft", "flush", "ruleset")
    assert _inspect(pod).condition is Condition.ABSENT
    pod.run("nft", "-f", "-", stdin=saved)
    assert _inspect(pod).condition is Condition.SAME
    assert not _install(pod, wanted)


REFUSED = RuleSet(
    (Family.IPV4,),
    (
        Chain(
            "rest", Hook.OUTPUT, Stage.REFUSE, (Rule("rest-wrong", "", Match(protocols=(Protocol.TCP,)), Redirect(1)),)
        ),
    ),
)
"""Kernels translate addresses in nat chains only."""


def test_a_refusal_names_the_rule_and_changes_nothing(pod: Namespace) -> None:
    """What the kernel refuses is told by the rule's id, and what was there is there still."""
    _install(pod, spec())
    before = pod.ruleset()
    held = pod.call(BACKEND.read)
    with pytest.raises(ApplyError, match=r"cannot load rule rest-wrong: .*nothing was changed") as refused:
        pod.call(lambda: BACKEND.replace(REFUSED, (), held, 1.0))
    assert "\n" not in str(refused.value)
    assert pod.ruleset() == before


class _Meddler(NftBackend):
    """A backend whose first rules somebody changes as soon as they are loaded; `gives_up`: it loads no others."""

    def __init__(self, *, gives_up: bool = False) -> None:
        self.gives_up = gives_up
        self.loaded = False

    def replace(self, rules: RuleSet, about: Sequence[str], held: Observed, seed_s: float) -> None:
        if self.loaded and self.gives_up:
            raise ApplyError("cannot load the rules: out of memory")
        super().replace(rules, about, held, seed_s)
        if not self.loaded:
            self.loaded = True
            super().replace(plan(spec(families=(Family.IPV6,))), about, self.read(), seed_s)


@pytest.mark.parametrize("before", [None, "defaults"])
def test_what_reads_back_differently_is_rolled_back(pod: Namespace, before: str | None) -> None:
    """Rules that the kernel holds differently than they were loaded are an error, and the old ones are back."""
    if before:
        _install(pod, CASES[before])
    old = pod.ruleset()
    with pytest.raises(ApplyError, match="rolled back"):
        _install(pod, CASES["closed"], _Meddler())
    assert pod.ruleset() == old


def test_what_another_version_planned_is_rolled_back_under_our_name(pod: Namespace) -> None:
    """Its configuration comes back in the rules that this version plans, so the record names this version."""
    older = replace(new_record(CASES["defaults"], BACKEND, "0", 1), fingerprint="00000000")
    pod.call(lambda: install(BACKEND, older))
    assert _inspect(pod).planned_by == "0"
    with pytest.raises(ApplyError, match="rolled back"):
        _install(pod, CASES["closed"], _Meddler())
    assert _inspect(pod).condition is Condition.SAME
    assert _inspect(pod).record == new_record(CASES["defaults"], BACKEND, "1", 1)


class _Unreadable(NftBackend):
    """A backend that cannot read what it has loaded, the first time or ever after."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.loaded = False

    def read(self) -> Observed:
        if self.loaded and self.failures:
            self.failures -= 1
            raise PreflightError("cannot read the rules with nft: out of memory")
        return super().read()

    def replace(self, rules: RuleSet, about: Sequence[str], held: Observed, seed_s: float) -> None:
        super().replace(rules, about, held, seed_s)
        self.loaded = True


@pytest.mark.parametrize("before", [None, "defaults", "everything"])
@pytest.mark.parametrize("failures", [1, 100], ids=["once", "for good"])
def test_what_cannot_be_read_back_is_rolled_back(pod: Namespace, before: str | None, failures: int) -> None:
    """Rules that were loaded and cannot be looked at are an error, and the old ones are back."""
    if before:
        _install(pod, CASES[before])
    old = pod.ruleset()
    with pytest.raises(ApplyError, match=r"cannot read the rules with nft: out of memory: rolled back"):
        _install(pod, CASES["closed"], _Unreadable(failures))
    assert pod.ruleset() == old


STEERED = spec(inbound_ports=CASES["inbound-all"].inbound_ports, inbound_mode=InboundMode.TPROXY)


@pytest.mark.parametrize("before", [None, "defaults"])
def test_routing_that_cannot_be_had_is_rolled_back(pod: Namespace, before: str | None) -> None:
    """Where an ip rule or route is refused, those that were made before it are gone, and the rules are as they were."""
    pod.run("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=1")
    if before:
        _install(pod, CASES[before])
    old = (pod.ruleset(), *_routing(pod))
    with pytest.raises(ApplyError, match=r"cannot add the ipv6 route: .*: permission denied"):
        _install(pod, STEERED)
    assert (pod.ruleset(), *_routing(pod)) == old


def _routing(pod: Namespace) -> list[str]:
    return [pod.run("ip", family, what, "show", *table).stdout for family in ("-4", "-6") for what, *table in ROUTING]


ROUTING = (("rule",), ("route", "table", "all"))


def test_a_rollback_that_fails_is_said(pod: Namespace) -> None:
    """Where the old rules cannot be put back either, the error is another one."""
    _install(pod, CASES["defaults"])
    with pytest.raises(RollbackError):
        _install(pod, CASES["closed"], _Meddler(gives_up=True))


def test_reading_creates_nothing(pod: Namespace) -> None:
    """Looking at a namespace where nothing is installed leaves it as it is."""
    assert pod.call(BACKEND.read) == NOTHING
    assert pod.ruleset() == ""


def test_replacing_under_load_loses_and_leaks_nothing() -> None:
    """During 100 replacements every lookup is answered, and every one by the resolver."""
    with world() as there:
        there.install(CASES["defaults"])
        there.beat()
        answers: list[str] = []
        stop = threading.Event()
        senders = [threading.Thread(target=_look_up, args=(there, number, answers, stop)) for number in (0, 1)]
        for sender in senders:
            sender.start()
        try:
            for turn in range(100):
                there.install(CASES["closed" if turn % 2 else "defaults"])
        finally:
            stop.set()
            for sender in senders:
                sender.join()
        assert len(answers) > 100
        assert set(answers) == {"15053"}


def test_replacing_what_is_foreign_leaks_nothing_either() -> None:
    """Where the table must be made anew, the living families stay alive over it."""
    with world() as there:
        there.install(SPEC)
        there.beat()
        there.pod.run("nft", "add", "map", "inet", "meshdns", "other", "{ type mark : verdict; }")
        there.install(SPEC)
        probe = Probe("lookup", LISTED[0], 53, Protocol.UDP, APP)
        assert there.send(probe) == (Fate.REDIRECT, 15053)
        assert there.held().strangers == ()


def _look_up(there: World, number: int, answers: list[str], stop: threading.Event) -> None:
    """Ask by turns from a socket that stays open and from new ones."""
    family = (socket.AF_INET, socket.AF_INET6)[number]
    with there.pod.socket(family, socket.SOCK_DGRAM, uid=APP) as long_lived:
        while not stop.is_set():
            answers.append(_answer(long_lived, LISTED[number]))
            with there.pod.socket(family, socket.SOCK_DGRAM, uid=APP) as fresh:
                answers.append(_answer(fresh, LISTED[number]))


def _answer(client: socket.socket, server: str) -> str:
    client.sendto(b"who?", (server, 53))
    try:
        return client.recv(64).decode()
    except TimeoutError:
        return "lost"
