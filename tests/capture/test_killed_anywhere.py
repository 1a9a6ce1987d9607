"""Killed at any step, `install` and `uninstall` leave the old rules or the new ones, and can simply be run again.

The steps are the programs that change the kernel's rules: nothing else does. A stand-in for each on PATH kills who ran
it: before it has done anything, or while it does its work, which it then finishes alone. With nft all rules are one
transaction; with iptables a kernel can do no more than each family whole, and what is half one and half the other is
told as drift. What only asks us to end, as ^C does, leaves one of the two in every family.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from capturing import EVERYWHERE, servers, spec
from namespaces import Namespace, namespace
from proving import MESHDNS, capture
from stand_ins import SIGNALLING, StandIns, stand_ins

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.install import inspect, install, new_record, uninstall
from meshdns.capture.policy.spec import CaptureSpec, OnResolverDown

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

FAMILIES = ("iptables", "ip6tables")
CHANGERS = {
    "nft": ("nft",),
    "iptables-nft": tuple(f"{family}-nft-restore" for family in FAMILIES),
    "iptables-legacy": tuple(f"{family}-legacy-restore" for family in FAMILIES),
}
OLD = spec(on_resolver_down=OnResolverDown.CLOSED)
NEW = spec(dns_servers=servers("10.96.0.99", "fd00:96::99"), outbound_cidrs=EVERYWHERE)
INSTALL_NEW = (
    "install",
    "--dns-servers",
    "10.96.0.99,fd00:96::99",
    "--outbound-cidr",
    "*",
    "--heartbeat-timeout",
    "3600",
)
UNINSTALL = ("uninstall",)
DRIFT = 10
OPERATIONS: dict[str, tuple[CaptureSpec | None, tuple[str, ...], CaptureSpec | None]] = {
    "install": (None, INSTALL_NEW, NEW),
    "replace": (OLD, INSTALL_NEW, NEW),
    "uninstall": (OLD, UNINSTALL, None),
}
"""What is installed before, the command that is killed, and what is installed afterwards."""

State = tuple[str, ...]
"""Our rules, without counters and record: with nft one text, with iptables one for each family."""


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def _state(pod: Namespace, backend: str) -> State:
    if backend == "nft":
        texts = [pod.run("nft", "-s", "-t", "list", "table", "inet", "meshdns", check=False).stdout]
    else:
        texts = [pod.run(f"{family}-{backend.removeprefix('iptables-')}-save").stdout for family in FAMILIES]
    return tuple("\n".join(_in_force(text)) for text in texts)


def _in_force(text: str) -> list[str]:
    """Return the rules that packets can meet: nothing jumps to iptables' chains of another generation."""
    # The record's comments tell the time of the installation.
    lines = [line for line in map(str.strip, text.splitlines()) if line[:1] not in ("", ":", "*", "#")]
    lines = [line for line in lines if line != "COMMIT" and not line.startswith("continue comment")]
    met = set(re.findall(r"-j (MESHDNS_\S+)", text))
    lines = [line for line in lines if not (chain := re.match(r"-A (MESHDNS_\S+)", line)) or chain[1] in met]
    return [re.sub(r"(MESHDNS_[A-Z_]+)_\d+", r"\1", line) for line in lines]


def _make(pod: Namespace, backend: str, wanted: CaptureSpec | None) -> State:
    """Have nothing but `wanted` installed."""
    made = BACKENDS[backend]()
    pod.call(lambda: uninstall(made))
    if wanted:
        pod.call(lambda: install(made, new_record(wanted, made, "1", 1)))
    return _state(pod, backend)


def _held(pod: Namespace, backend: str) -> CaptureSpec | None:
    """Return the configuration that is installed, whole and without drift."""
    found = pod.call(lambda: inspect(BACKENDS[backend]()))
    assert not found.drift
    return found.record.spec if found.record else None


CASES = [(backend, operation) for backend in ("nft", "iptables-nft") for operation in OPERATIONS]
CASES.append(("iptables-legacy", "replace"))  # the same steps as of the nft variant, by programs of another name


@pytest.mark.parametrize(("backend", "operation"), CASES)
def test_killed_at_any_step(pod: Namespace, tmp_path: Path, backend: str, operation: str) -> None:
    """After SIGKILL at any step the kernel holds the old set or the new one; the same command then succeeds."""
    before, command, afterwards = OPERATIONS[operation]
    programs = stand_ins(tmp_path, CHANGERS[backend])
    old, new = _make(pod, backend, before), _make(pod, backend, afterwards)
    seen = set()
    for when in ("before", "while"):
        for step in itertools.count(1):
            assert _make(pod, backend, before) == old
            if not _was_killed(pod, programs, f"{step} {when}", (*command, "--backend", backend)):
                break
            state = _state(pod, backend)
            seen.add(state)
            for held, was, will in zip(state, old, new, strict=True):
                assert held in (was, will)
            if state not in (old, new):
                assert capture(pod, "status", "--check", check=False).returncode == DRIFT
            capture(pod, *command, "--backend", backend)
            assert _held(pod, backend) == afterwards
    assert {old, new} <= seen


def _was_killed(pod: Namespace, programs: StandIns, kill_at: str, command: Sequence[str]) -> bool:
    """Run a command that is to be killed at that run; returns whether it came to it."""
    done = pod.run(MESHDNS, "capture", *command, environment=programs.environment(kill_at), check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    if done.returncode and kill_at.endswith("while"):
        programs.await_the_orphan()
    return done.returncode != 0


SIGNALS = {"INT": 130, "TERM": -signal.SIGTERM, "HUP": -signal.SIGHUP}
"""What a command that was asked to end exits with."""
SIGNALLED = [(backend, operation, "INT") for backend in CHANGERS for operation in OPERATIONS]
SIGNALLED += [("iptables-nft", operation, name) for operation in OPERATIONS for name in ("TERM", "HUP")]


@pytest.mark.parametrize(("backend", "operation", "name"), SIGNALLED)
def test_asked_to_end_at_any_step(pod: Namespace, tmp_path: Path, backend: str, operation: str, name: str) -> None:
    """After SIGINT, SIGTERM or SIGHUP at any step everything is as it was, or everything is as it should be."""
    before, command, afterwards = OPERATIONS[operation]
    programs = stand_ins(tmp_path, CHANGERS[backend], SIGNALLING)
    old, new = _make(pod, backend, before), _make(pod, backend, afterwards)
    seen = set()
    for when in ("before", "after"):
        for step in itertools.count(1):
            assert _make(pod, backend, before) == old
            environment = programs.environment(f"{step} {when}", name)
            # A group of its own: the signal is not for those who run the tests.
            done = pod.run(
                "setsid", MESHDNS, "capture", *command, "--backend", backend, environment=environment, check=False
            )
            if done.returncode == 0:
                break
            assert done.returncode == SIGNALS[name], done.stderr
            state = _state(pod, backend)
            assert state in (old, new)
            assert _held(pod, backend) == (before if state == old else afterwards)
            seen.add(state)
        assert step > 1
    assert new in seen


def test_asked_to_end_between_two_dialects(pod: Namespace, tmp_path: Path) -> None:
    """^C leaves the rules of one backend only: the old one's, or the new one's once they are in."""
    programs = stand_ins(tmp_path, (*CHANGERS["nft"], *CHANGERS["iptables-legacy"]), SIGNALLING)
    seen = set()
    for step in itertools.count(1):
        for backend in CHANGERS:
            _make(pod, backend, OLD if backend == "nft" else None)
        environment = programs.environment(f"{step} before", "INT")
        command = ("setsid", MESHDNS, "capture", *INSTALL_NEW, "--backend", "iptables-legacy")
        done = pod.run(*command, environment=environment, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == SIGNALS["INT"], done.stderr
        held = {backend: _held(pod, backend) for backend in ("nft", "iptables-legacy")}
        assert held in ({"nft": OLD, "iptables-legacy": None}, {"nft": None, "iptables-legacy": NEW})
        seen.add(held["nft"])
    assert seen == {OLD, None}


TRIAL_OF_NEW = (*INSTALL_NEW, "--backend", "iptables-nft", "--commit-timeout", "600")


def test_a_trial_that_is_asked_to_end_is_still_a_trial(pod: Namespace, tmp_path: Path) -> None:
    """^C while the rules of a trial go in leaves all of the trial, or nothing of it, never rules that stay for good."""
    programs = stand_ins(tmp_path, CHANGERS["iptables-nft"], SIGNALLING)
    _make(pod, "iptables-nft", OLD)
    try:
        environment = programs.environment("1 before", "INT")
        done = pod.run("setsid", MESHDNS, "capture", *TRIAL_OF_NEW, environment=environment, check=False)
        assert done.returncode == SIGNALS["INT"], done.stderr
        assert _held(pod, "iptables-nft") == NEW
        assert "to be confirmed within" in capture(pod, "status").stdout
    finally:
        capture(pod, "uninstall", check=False)  # whoever waits ends with the trial
