"""Which backend is taken, and what becomes of an installation of another one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from capturing import spec, world
from namespaces import Namespace, namespace

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.choice import (
    ORDER,
    Choice,
    choose_working,
    held_elsewhere,
    installed,
    remove_elsewhere,
    uninstall_everywhere,
)
from meshdns.capture.apply.install import install, new_record
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.spec import Family
from meshdns.capture.system import runner

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

RULES = plan(spec())
PROGRAMS = {
    "nft": ("nft",),
    "iptables-nft": tuple(f"{name}-nft-{what}" for name in ("iptables", "ip6tables") for what in ("save", "restore")),
    "iptables-legacy": tuple(
        f"{name}-legacy-{what}" for name in ("iptables", "ip6tables") for what in ("save", "restore")
    ),
}
MESHDNS = str(Path(sys.executable).with_name("meshdns"))


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def _only(programs: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing on PATH but these programs."""
    for program in programs:
        (folder / program).symlink_to(shutil.which(program) or "/usr/sbin/" + program)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(runner, "BESIDES_PATH", ())


def _choose(pod: Namespace, name: str = "auto") -> Choice:
    return pod.call(lambda: choose_working(name, RULES))


def _install(pod: Namespace, name: str) -> tuple[str, ...]:
    """Install as the command does; returns from where an older installation was removed."""

    def change() -> tuple[str, ...]:
        choice = choose_working(name, RULES)
        elsewhere = held_elsewhere(choice.backend)
        install(choice.backend, new_record(spec(), choice.backend, "1", 1), choice.held)
        remove_elsewhere(choice.backend, elsewhere)
        return tuple(elsewhere)

    return pod.call(change)


def _holding(pod: Namespace) -> list[str]:
    return [name for name in ORDER if pod.call(BACKENDS[name]().read).present]


@pytest.mark.parametrize("name", ORDER)
def test_auto_takes_the_first_that_works(
    pod: Namespace, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the programs of one backend on PATH it is that one, and the reason says why none before it."""
    _only(PROGRAMS[name], tmp_path, monkeypatch)
    choice = _choose(pod)
    assert choice.backend.name == name
    assert "works in a scratch namespace" in choice.reason
    assert all(f"not {other}: cannot run" in choice.reason for other in ORDER[: ORDER.index(name)])


def test_choosing_changes_nothing_and_is_the_same_each_time(pod: Namespace) -> None:
    """Probing leaves no table in the namespace that is probed for, so the next choice has the same to go by."""
    assert {_choose(pod).backend.name for _ in range(3)} == {"nft"}
    assert pod.ruleset() == ""
    assert pod.run("cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names").stdout == ""


def test_nothing_that_works_is_an_error_with_every_reason(
    pod: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any program: exit 3, naming the packages."""
    _only((), tmp_path, monkeypatch)
    with pytest.raises(PreflightError, match=r"nft: .*nftables; iptables-nft: .*iptables; iptables-legacy: .*iptables"):
        _choose(pod)


def test_a_program_that_does_not_work_is_passed_over(
    pod: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that is there and reads, but cannot load rules, is found out in the scratch namespace."""
    broken = tmp_path / "nft"
    broken.write_text(
        f'#!/bin/sh\n[ "$1" = -f ] && {{ echo no nat here >&2; exit 1; }}\nexec {shutil.which("nft")} "$@"\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    choice = _choose(pod)
    assert choice.backend.name == "iptables-nft"
    assert "no nat here" in choice.reason


def test_without_a_scratch_namespace_it_must_answer(pod: Namespace, tmp_path: Path) -> None:
    """With CAP_NET_ADMIN alone, as in an init container, the first backend that answers is taken, and that is said."""
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 10.96.0.10\n")
    keep = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", MESHDNS, "capture", "install"]
    done = pod.run(*keep, "--resolv-conf", str(resolv_conf))
    assert "backend nft: it answers (not tried" in done.stdout
    assert _holding(pod) == ["nft"]


@pytest.mark.parametrize("name", ORDER)
def test_auto_stays_with_what_is_installed(pod: Namespace, name: str) -> None:
    """Whatever backend holds an installation is the one for every later command."""
    assert _install(pod, name) == ()
    assert _choose(pod).backend.name == name
    assert pod.call(lambda: installed("auto")).name == name
    assert _install(pod, "auto") == ()
    assert _holding(pod) == [name]
    assert pod.call(lambda: uninstall_everywhere("auto"))
    assert _holding(pod) == []
    assert not pod.call(lambda: uninstall_everywhere("auto"))


@pytest.mark.parametrize("new", ORDER)
@pytest.mark.parametrize("old", ORDER)
def test_another_dialect_replaces_the_one_before(pod: Namespace, old: str, new: str) -> None:
    """After an install with another backend only that one holds anything."""
    _install(pod, old)
    assert _install(pod, new) == (() if old == new else (old,))
    assert _holding(pod) == [new]


def test_what_cannot_be_installed_leaves_the_other_dialect(
    pod: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old installation goes only when the new one is in the kernel."""
    _install(pod, "nft")
    _only(PROGRAMS["nft"], tmp_path, monkeypatch)
    with pytest.raises(PreflightError):
        _install(pod, "iptables-nft")
    assert pod.call(BACKENDS["nft"]().read).present


def test_a_living_resolver_is_alive_in_the_new_dialect_first() -> None:
    """The old rules stay until a heartbeat has opened the new switch, or until two should have come."""
    with world() as there:
        there.install(spec())
        there.beat()
        iptables = BACKENDS["iptables-legacy"]()
        there.pod.call(lambda: install(iptables, new_record(spec(), iptables, "1", 1)))
        there.beat()
        elsewhere = there.pod.call(lambda: held_elsewhere(iptables))
        assert set(elsewhere) == {"nft"}
        there.pod.call(lambda: remove_elsewhere(iptables, elsewhere))
        assert there.pod.call(iptables.read).alive == frozenset(Family)


def test_iptables_programs_that_are_gone_are_missed_where_their_rules_are(
    pod: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody here can remove is said, rather than passed over."""
    _install(pod, "iptables-legacy")
    _only(PROGRAMS["nft"], tmp_path, monkeypatch)
    with pytest.raises(PreflightError, match="install the package iptables"):
        pod.call(lambda: uninstall_everywhere("auto"))
    with pytest.raises(PreflightError, match="cannot read what iptables holds beside nft"):
        _install(pod, "nft")
    assert not pod.call(BACKENDS["nft"]().read).present


@pytest.mark.parametrize("others", [(), PROGRAMS["iptables-legacy"]], ids=["no program", "iptables-legacy"])
def test_nft_that_is_gone_is_missed_where_its_rules_are(
    pod: Namespace, others: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel holds our table and nobody can show it, that is an error which names nft, not "nothing"."""
    _install(pod, "nft")
    _only(others, tmp_path, monkeypatch)
    with pytest.raises(PreflightError, match=r"cannot run nft: .* install the package nftables"):
        pod.call(lambda: installed("auto").read())
    with pytest.raises(PreflightError, match=r"cannot run nft: .* install the package nftables"):
        pod.call(lambda: uninstall_everywhere("auto"))


@pytest.mark.parametrize("name", ["iptables-legacy", "auto"])
def test_nft_that_is_gone_is_missed_by_an_install_with_iptables(
    pod: Namespace, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of ours that nobody here can remove would capture beside the new rules: that is said."""
    _install(pod, "nft")
    _only(PROGRAMS["iptables-legacy"], tmp_path, monkeypatch)
    with pytest.raises(PreflightError, match="cannot read what nft holds beside iptables-legacy: cannot run nft"):
        _install(pod, name)
    assert not pod.call(BACKENDS["iptables-legacy"]().read).present


def test_hosts_that_have_only_iptables_need_no_nft(
    pod: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without nft and without a table of ours, iptables is all that is asked."""
    _only(PROGRAMS["iptables-legacy"], tmp_path, monkeypatch)
    assert not pod.call(lambda: installed("auto").read()).present
    assert not pod.call(lambda: uninstall_everywhere("auto"))
    _install(pod, "auto")
    assert pod.call(lambda: installed("auto")).name == "iptables-legacy"
    assert pod.call(lambda: uninstall_everywhere("auto"))


WITHOUT_SCRATCH = """
from capturing import spec
from meshdns.capture.apply.choice import choose_working
from meshdns.capture.policy.plan import plan
from meshdns.capture.system import runner

runner.BESIDES_PATH = ()
choice = choose_working("auto", plan(spec()))
print(choice.backend.name, choice.reason)
"""


def test_nft_that_is_gone_is_not_chosen_untried(pod: Namespace, tmp_path: Path) -> None:
    """Where no scratch namespace can be made, a backend whose program is gone is not one that answers."""
    for program in PROGRAMS["iptables-legacy"]:
        (tmp_path / program).symlink_to(shutil.which(program) or "/usr/sbin/" + program)
    environment = ["env", f"PATH={tmp_path}", f"PYTHONPATH={Path(__file__).parents[2]}"]
    keep = ["setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all"]
    chosen = pod.run(*keep, *environment, sys.executable, "-c", WITHOUT_SCRATCH).stdout
    assert chosen.startswith("iptables-legacy it answers (not tried")
    assert "not nft: cannot run nft" in chosen


def test_programs_are_found_where_an_ordinary_users_path_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian keeps nft in /usr/sbin, which is on the PATH of root alone."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert runner.run(["nft", "--version"]).exit_code == 0
    runner.demand("nft")
    with pytest.raises(runner.MissingProgramError, match="no-such-program"):
        runner.demand("no-such-program")
