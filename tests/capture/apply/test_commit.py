"""What is installed for a trial goes back to what was there before, whoever is killed, unless it is confirmed."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from namespaces import Namespace, namespace
from other_meshdns import OTHER_OPTIONS, OTHER_RULES, Edit, other_meshdns
from proving import MESHDNS, capture
from stand_ins import FAILING, stand_ins

from meshdns.capture.apply.commit import NOTE, RETRY_S, pending
from meshdns.capture.system.namespace import LOCKS, about_this, about_this_alone
from meshdns.capture.system.outlive import unit_command
from meshdns.init.version import VERSION

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

FIRST = ("--dns-servers", "10.96.0.10", "--family", "ipv4")
SECOND = ("--dns-servers", "10.96.0.99", "--family", "ipv4")
THIRD = ("--dns-servers", "10.96.0.33", "--family", "ipv4")
TRIAL_S = "1"
"""Time enough for whoever must see the trial, and no more to wait for its end."""
LONG_S = "600"
"""For trials that must not end before they are confirmed."""
WITHIN_S = 15.0


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made
        # A waiting process of a failed test must not go on.
        capture(made, "uninstall", check=False)


def _status(pod: Namespace) -> dict[str, object]:
    told: dict[str, object] = json.loads(capture(pod, "status", "--json").stdout)
    return told


def _servers(pod: Namespace) -> object:
    spec = _status(pod)["spec"]
    return spec["dns_servers"] if isinstance(spec, dict) else None


def _eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False


def test_nothing_comes_back_to_nothing(pod: Namespace) -> None:
    """A first installation on trial is gone when nobody confirms it, and a confirmation after that comes too late."""
    done = capture(pod, "install", *FIRST, "--commit-timeout", TRIAL_S)
    assert "meshdns capture confirm" in done.stdout
    assert _eventually(lambda: pod.ruleset() == "")
    late = capture(pod, "confirm", check=False)
    assert late.returncode == 4
    assert "it is too late" in late.stderr
    assert "nothing is installed" in late.stderr


def test_the_configuration_before_comes_back(pod: Namespace) -> None:
    """What was replaced on trial is back when nobody confirms, whole and without drift."""
    capture(pod, "install", *FIRST)
    said = capture(pod, "install", *SECOND, "--commit-timeout", TRIAL_S).stdout
    assert "what was before comes back in 1 s" in said
    assert _eventually(lambda: _status(pod)["confirm_within_s"] is None)
    assert _servers(pod) == ["10.96.0.10"]
    assert capture(pod, "status", "--check").returncode == 0


def test_a_confirmation_that_is_due_no_more_is_too_late(pod: Namespace) -> None:
    """From when the time is over nothing is confirmed, also where the process that waits has not come round to it."""
    capture(pod, "install", *FIRST, "--commit-timeout", TRIAL_S)
    (process,) = _waiting(pod)
    os.kill(process, signal.SIGSTOP)
    try:
        assert _eventually(lambda: _status(pod)["confirm_within_s"] == 0.0)
        late = capture(pod, "confirm", check=False)
    finally:
        os.kill(process, signal.SIGCONT)
    assert (late.returncode, "comes back now; in force: " in late.stderr) == (4, True)
    assert _eventually(lambda: pod.ruleset() == "")


def test_an_install_without_a_trial_ends_one(pod: Namespace) -> None:
    """What is installed without `--commit-timeout` stays, also where nothing had to change, and says so."""
    capture(pod, "install", *FIRST, "--commit-timeout", LONG_S)
    assert "the trial is over: what is installed stays" in capture(pod, "install", *FIRST).stdout
    assert _status(pod)["confirm_within_s"] is None
    assert "trial" not in capture(pod, "install", *FIRST).stdout


def test_confirmed_it_stays(pod: Namespace) -> None:
    """`status` counts the seconds of a trial; confirmed it stays, and a second `confirm` says what is in force."""
    capture(pod, "install", *FIRST)
    capture(pod, "install", *SECOND, "--commit-timeout", LONG_S)
    left = _status(pod)["confirm_within_s"]
    assert isinstance(left, float)
    assert 0 < left <= float(LONG_S)
    assert _servers(pod) == ["10.96.0.99"]
    assert "to be confirmed within" in capture(pod, "status").stdout
    said = capture(pod, "install", *SECOND, "--commit-timeout", LONG_S).stdout
    assert "still on trial: what was before comes back in" in said
    assert "dns-servers 10.96.0.99" in capture(pod, "confirm").stdout
    assert _status(pod)["confirm_within_s"] is None
    assert _servers(pod) == ["10.96.0.99"]
    again = capture(pod, "confirm", check=False)
    assert again.returncode == 4
    assert "nothing is pending; in force: " in again.stderr
    assert "dns-servers 10.96.0.99" in again.stderr


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_killed_install_comes_back_as_well(pod: Namespace, tmp_path: Path, when: str) -> None:
    """Killed at any run of nft, before the trial is noted or after, `install` leaves what was before in the end."""
    capture(pod, "install", *FIRST)
    programs = stand_ins(tmp_path, ("nft",))
    noted = []
    for step in itertools.count(1):
        before = _noted(pod)
        environment = programs.environment(f"{step} {when}")
        done = pod.run(*TRIAL_BY_NFT, "--commit-timeout", TRIAL_S, environment=environment, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        if when == "while":
            programs.await_the_orphan()
        noted.append(_noted(pod) != before)
        assert _eventually(lambda: _status(pod)["confirm_within_s"] is None)
        assert _servers(pod) == ["10.96.0.10"]
    assert set(noted) == {False, True}


def _noted(pod: Namespace) -> str:
    """Return which trial was noted last, whether it has come back or not; empty where none was."""
    note = Path(pod.call(lambda: about_this_alone(NOTE) or about_this(NOTE)))
    return str(json.loads(note.read_bytes())["id"]) if note.exists() else ""


TRIAL_BY_NFT = (MESHDNS, "capture", "install", *SECOND, "--backend", "nft")


def test_nothing_waits_for_a_trial_that_has_ended(pod: Namespace) -> None:
    """The process that waits ends with the trial: confirmed, nothing comes back and nothing is left running."""
    capture(pod, "install", *FIRST, "--commit-timeout", LONG_S)
    assert _eventually(lambda: len(_waiting(pod)) == 1)
    capture(pod, "confirm")
    assert _eventually(lambda: not _waiting(pod))
    assert _servers(pod) == ["10.96.0.10"]


WAYS_OUT: dict[str, tuple[str, ...]] = {
    "revert": (),
    "install": ("install", *SECOND),
    "install on trial": ("install", *SECOND, "--commit-timeout", LONG_S),
}


@pytest.mark.parametrize("way_out", WAYS_OUT)
def test_a_trial_that_nobody_ends_is_told(pod: Namespace, way_out: str) -> None:
    """Where whoever waits is killed, `confirm` is too late and `status` says so, with two ways out that work."""
    capture(pod, "install", *FIRST)
    capture(pod, "install", *SECOND, "--commit-timeout", TRIAL_S)
    _kill_who_waits(pod)
    assert _eventually(lambda: _status(pod)["trial_abandoned"] is True)
    assert _status(pod)["confirm_within_s"] is None
    late = capture(pod, "confirm", check=False)
    assert late.returncode == 4
    assert "too late: the process that was to bring back what was before is gone" in late.stderr
    assert "in force: family ipv4" in late.stderr
    told = capture(pod, "status").stdout
    assert told.startswith("not confirmed in time, and the process ")
    named = re.search(r"`meshdns capture (revert \w+)`", told)
    assert named
    capture(pod, *(WAYS_OUT[way_out] or named[1].split()))
    assert _eventually(lambda: len(_waiting(pod)) == (way_out == "install on trial"))
    assert _servers(pod) == (["10.96.0.10"] if way_out == "revert" else ["10.96.0.99"])
    assert not _status(pod)["trial_abandoned"]
    assert "not confirmed" not in capture(pod, "status").stdout
    assert capture(pod, "confirm", check=False).returncode == 4


def test_a_trial_that_ends_late_is_not_given_up(pod: Namespace) -> None:
    """While somebody else holds the lock beyond the trial's end, whoever waits goes on trying, and `status` says so."""
    capture(pod, "install", *FIRST)
    trial_s = 3.0  # long enough for the lock to be taken meanwhile
    capture(pod, "install", *SECOND, "--commit-timeout", str(trial_s))
    with pod.running(sys.executable, "-c", HOLDING) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        deadline = time.monotonic() + trial_s + RETRY_S + 1
        while time.monotonic() < deadline:
            assert _status(pod)["confirm_within_s"] is not None
            assert not _status(pod)["trial_abandoned"]
            time.sleep(0.5)
    assert _eventually(lambda: _servers(pod) == ["10.96.0.10"])


HOLDING = """
import time
from meshdns.capture.system.namespace import locked
with locked():
    print("held", flush=True)
    time.sleep(60)
"""


def _waiting(pod: Namespace) -> set[int]:
    """Return the processes that wait in there with what is to come back."""
    found = set()
    here = _inode(pod)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns/net").stat().st_ino == here and b"\0revert\0" in (process / "cmdline").read_bytes():
                found.add(int(process.name))
    return found


def _inode(pod: Namespace) -> int:
    return os.fstat(pod.descriptor).st_ino


def _kill_who_waits(pod: Namespace) -> None:
    for process in _waiting(pod):
        os.kill(process, signal.SIGKILL)
    assert _eventually(lambda: not _waiting(pod))


NO_COOKIE: Edit = ("capture/system/namespace.py", "SO_NETNS_COOKIE: Final = 71", "SO_NETNS_COOKIE: Final = 9999")
"""Asks for what no kernel tells, as this one does not before 5.14."""


@pytest.mark.parametrize("edits", [(), (NO_COOKIE,)], ids=["by its cookie", "without a cookie"])
def test_a_trial_is_of_its_namespace_alone(edits: tuple[Edit, ...], tmp_path: Path) -> None:
    """What was on trial in a namespace that is gone is nothing to the next one, though that has the same inode."""
    meshdns = other_meshdns(tmp_path, "9.9.9", *edits)
    with namespace() as gone:
        meshdns.capture(gone, "install", *FIRST)
        meshdns.capture(gone, "install", *SECOND, "--commit-timeout", LONG_S)
        assert "to be confirmed within" in meshdns.capture(gone, "status").stdout
        _kill_who_waits(gone)
        inode = _inode(gone)
    with namespace() as new:
        assert _inherit(inode, new) is (NO_COOKIE in edits)
        told = json.loads(meshdns.capture(new, "status", "--json").stdout)
        assert (told["confirm_within_s"], told["trial_abandoned"]) == (None, False)
        refused = meshdns.capture(new, "confirm", check=False)
        assert (refused.returncode, "nothing is pending" in refused.stderr) == (4, True)
        assert (
            "it is removed again in 1 s" in meshdns.capture(new, "install", *THIRD, "--commit-timeout", TRIAL_S).stdout
        )
        assert "10.96.0.33" in new.ruleset()
        assert _eventually(lambda: new.ruleset() == "")


@pytest.mark.parametrize("command", [("install", *SECOND), ("uninstall",)], ids=["install", "uninstall"])
def test_what_is_meant_ends_the_trial_of_an_older_version(
    pod: Namespace, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """A note by the inode, as older versions leave it, is taken away too: whoever waits with it goes."""
    other_meshdns(tmp_path, "0.0.1", NO_COOKIE).capture(pod, "install", *FIRST, "--commit-timeout", LONG_S)
    assert _waiting(pod)
    capture(pod, *command)
    assert _eventually(lambda: not _waiting(pod))


def _inherit(inode: int, heir: Namespace) -> bool:
    """Give the note that was left under the inode of a gone namespace to another; returns whether there was one.

    The kernel gives the number to the next one by itself, but not for certain to one that a test makes.
    """
    left = Path(LOCKS, f"{NOTE}-{inode}")
    return left.exists() and left.rename(left.with_name(f"{NOTE}-{_inode(heir)}")).exists()


def test_waiting_for_what_is_not_pending_is_over_at_once(pod: Namespace) -> None:
    """`revert` ends where nothing was ever noted, or another trial was, without a trace of it."""
    for command in (("install", *FIRST), ("install", *SECOND, "--commit-timeout", LONG_S)):
        capture(pod, *command)
        assert "nothing to bring back" in capture(pod, "revert", "00ff").stdout
    assert "to be confirmed within" in capture(pod, "status").stdout
    assert _servers(pod) == ["10.96.0.99"]


READ_ONLY = "mkdir -p /run/meshdns && mount --bind /run/meshdns /run/meshdns && mount -o remount,ro,bind /run/meshdns"
NOWHERE = "mount -t tmpfs -o ro tmpfs /run"


@pytest.mark.parametrize(("place", "code"), [(NOWHERE, 0), (READ_ONLY, 3)], ids=["no folder", "read-only"])
def test_where_nothing_can_be_noted(pod: Namespace, place: str, code: int) -> None:
    """Where `revert` sees no folder there is nothing to do, where it sees a read-only one it cannot wait: exit 3."""
    capture(pod, "install", *FIRST, "--commit-timeout", LONG_S)
    _kill_who_waits(pod)
    on_trial = pod.call(pending)
    assert on_trial
    script = f"{place} && exec {MESHDNS} capture revert {on_trial.id}"
    done = pod.run("unshare", "--mount", "sh", "-c", script, check=False, timeout_s=60)
    assert done.returncode == code, done.stderr
    assert (
        "nothing to bring back" if code == 0 else "cannot attend to /run/meshdns/commit-"
    ) in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_trial_does_not_change_what_comes_back(pod: Namespace) -> None:
    """Two trials in a row, neither confirmed: the last confirmed configuration comes back."""
    capture(pod, "install", *FIRST)
    capture(pod, "install", *SECOND, "--commit-timeout", LONG_S)
    capture(pod, "install", *THIRD, "--commit-timeout", TRIAL_S)
    assert _eventually(lambda: _status(pod)["confirm_within_s"] is None)
    assert _servers(pod) == ["10.96.0.10"]


FINAL: dict[str, tuple[tuple[str, ...], object]] = {
    "an install without a timeout": (("install", *THIRD), ["10.96.0.33"]),
    "the same install without a timeout": (("install", *SECOND), ["10.96.0.99"]),
    "an uninstall": (("uninstall",), None),
}


@pytest.mark.parametrize("case", FINAL)
def test_what_is_meant_ends_the_trial(pod: Namespace, case: str) -> None:
    """What is installed or removed without a timeout is meant to stay: nothing comes back after it."""
    command, servers = FINAL[case]
    capture(pod, "install", *FIRST)
    capture(pod, "install", *SECOND, "--commit-timeout", LONG_S)
    capture(pod, *command)
    assert _status(pod)["confirm_within_s"] is None
    assert _servers(pod) == servers


def test_an_install_that_changes_nothing_leaves_nothing_pending(pod: Namespace) -> None:
    """There is nothing to confirm where what is installed on trial was there before."""
    capture(pod, "install", *FIRST)
    capture(pod, "install", *FIRST, "--commit-timeout", LONG_S)
    assert _status(pod)["confirm_within_s"] is None
    assert _eventually(lambda: not _waiting(pod))


@pytest.mark.parametrize("before", [(), ("--commit-timeout", LONG_S)], ids=["confirmed before", "on trial before"])
def test_an_install_that_is_refused_leaves_what_was_pending(
    pod: Namespace, tmp_path: Path, before: tuple[str, ...]
) -> None:
    """Where the kernel refuses the rules of a trial, what was pending before still is: nothing, or another trial."""
    capture(pod, "install", *FIRST, *before)
    id_before = _noted(pod)
    due_before = _status(pod)["confirm_within_s"]
    environment = stand_ins(tmp_path, ("nft",), FAILING).failing("change")
    refused = pod.run(*TRIAL_BY_NFT, "--commit-timeout", "6000", environment=environment, check=False)
    assert (refused.returncode, "no change today" in refused.stderr) == (4, True)
    assert _servers(pod) == ["10.96.0.10"]
    assert _noted(pod) == id_before
    left = _status(pod)["confirm_within_s"]
    if isinstance(due_before, float):
        assert isinstance(left, float)
        assert left < due_before
    assert _eventually(lambda: bool(_waiting(pod)) == (due_before is not None))
    assert (left is None) == (due_before is None)


UNREADABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "nothing before": ((), ("read",)),
    "another before": (FIRST, ("read:4", "read:5")),
}
"""What was installed before, and the runs of nft that fail: those that read what was loaded."""


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_back_is_not_on_trial(pod: Namespace, tmp_path: Path, case: str) -> None:
    """Rules that were loaded and cannot be looked at are rolled back: exit 4, and there is nothing to confirm."""
    before, failing = UNREADABLE[case]
    if before:
        capture(pod, "install", *before)
    old = pod.ruleset()
    environment = stand_ins(tmp_path, ("nft",), FAILING).failing(*failing)
    done = pod.run(*TRIAL_BY_NFT, "--commit-timeout", LONG_S, environment=environment, check=False)
    assert done.returncode == 4
    assert "no read today: rolled back" in done.stderr
    assert pod.ruleset() == old
    assert "nothing is pending" in capture(pod, "confirm", check=False).stderr
    assert _eventually(lambda: not _waiting(pod))


def test_what_cannot_be_rolled_back_is_still_on_trial(pod: Namespace, tmp_path: Path) -> None:
    """Where the old rules cannot be put back at once the exit code is 5, and they come back at the end of the trial."""
    environment = stand_ins(tmp_path, ("nft",), FAILING).failing("read:1", "change:2")
    done = pod.run(*TRIAL_BY_NFT, "--commit-timeout", "3", environment=environment, check=False)
    assert done.returncode == 5
    assert "cannot roll back: " in done.stderr
    assert "still there" in done.stderr
    assert "it is removed again in 3 s" in done.stderr
    assert "10.96.0.99" in pod.ruleset()
    assert _eventually(lambda: pod.ruleset() == "")


@pytest.mark.parametrize("trial_s", [TRIAL_S, LONG_S], ids=["left", "taken up again"])
def test_what_another_backend_keeps_is_told_and_on_trial(pod: Namespace, trial_s: str) -> None:
    """New rules beside old ones that could not be removed: exit 4 says so, and the trial goes on to either end."""
    capture(pod, "install", *FIRST, "--backend", "iptables-legacy")
    with open(os.environ["XTABLES_LOCKFILE"], "w") as held:  # noqa: PTH123 - a descriptor is what is wanted
        fcntl.flock(held, fcntl.LOCK_EX)
        done = pod.run(*TRIAL_BY_NFT, "--commit-timeout", trial_s, check=False, timeout_s=50)
        assert done.returncode == 4
        assert "installed with nft, but what iptables-legacy holds is still there: " in done.stderr
        assert f"what was before comes back in {trial_s} s" in done.stderr
        assert "10.96.0.99" in pod.ruleset()
    if trial_s == TRIAL_S:
        assert _eventually(lambda: pod.ruleset() == "" and _status(pod)["confirm_within_s"] is None)
        assert _servers(pod) == ["10.96.0.10"]
        return
    assert (
        "removed what was installed with iptables-legacy" in pod.run(*TRIAL_BY_NFT, "--commit-timeout", LONG_S).stdout
    )
    capture(pod, "confirm")
    assert _servers(pod) == ["10.96.0.99"]
    assert capture(pod, "status", "--check").returncode == 0


def test_what_cannot_come_back_is_not_promised(pod: Namespace, tmp_path: Path) -> None:
    """Over what only another version can read, a trial says that nothing comes back after it, and so it is."""
    other_meshdns(tmp_path, "9.9.9", *OTHER_OPTIONS).capture(pod, "install", *FIRST)
    assert "it is removed again in 1 s" in capture(pod, "install", *SECOND, "--commit-timeout", TRIAL_S).stdout
    assert _eventually(lambda: pod.ruleset() == "")


def test_what_another_version_installed_comes_back_in_our_rules(pod: Namespace, tmp_path: Path) -> None:
    """Its configuration is back, without drift: the record does not name a version that planned other rules."""
    other_meshdns(tmp_path, "0.0.1", *OTHER_RULES).capture(pod, "install", *FIRST)
    capture(pod, "install", *SECOND, "--commit-timeout", TRIAL_S)
    assert _eventually(lambda: _status(pod)["confirm_within_s"] is None)
    assert _servers(pod) == ["10.96.0.10"]
    assert capture(pod, "status", "--check").returncode == 0
    assert _status(pod)["version"] == VERSION


NOBODY_COMES: tuple[Edit, ...] = (
    (
        "init/commands/capture_commit.py",
        "    is_back = commit.wait",
        "    raise SystemExit(1)\n    is_back = commit.wait",
    ),
    ("capture/apply/commit.py", "ATTENDED_WITHIN_S: Final = 10.0", "ATTENDED_WITHIN_S: Final = 0.5"),
)
"""What waits ends before it does, as where its Python does not find its modules."""


@pytest.mark.parametrize("before", [(), FIRST], ids=["nothing before", "another before"])
def test_no_trial_without_somebody_who_waits(pod: Namespace, tmp_path: Path, before: tuple[str, ...]) -> None:
    """Where nobody comes to bring it back there is no trial: exit 3, and all is as it was."""
    if before:
        capture(pod, "install", *before)
    old = pod.ruleset()
    failing = other_meshdns(tmp_path, VERSION, *NOBODY_COMES)
    refused = failing.capture(pod, "install", *SECOND, "--commit-timeout", LONG_S, check=False)
    assert refused.returncode == 3
    assert "cannot start what would bring it back: " in refused.stderr
    assert pod.ruleset() == old
    assert _status(pod)["confirm_within_s"] is None
    assert "nothing is pending" in capture(pod, "confirm", check=False).stderr


def test_who_waits_is_of_the_same_code(pod: Namespace, tmp_path: Path) -> None:
    """What was started with a relative PYTHONPATH comes back by the code that was found there."""
    newer = other_meshdns(tmp_path, "9.9.9", *OTHER_OPTIONS)
    found_here = ("env", "-C", str(tmp_path.parent), f"PYTHONPATH={tmp_path.name}")
    meshdns = (*found_here, sys.executable, "-m", "meshdns.init.cli", "capture")
    pod.run(*meshdns, "install", *FIRST)
    pod.run(*meshdns, "install", *SECOND, "--commit-timeout", TRIAL_S)
    assert _eventually(lambda: "10.96.0.10" in pod.ruleset())
    assert _eventually(lambda: not _waiting(pod))
    assert newer.capture(pod, "status", "--check").returncode == 0


def test_a_unit_enters_the_namespace() -> None:
    """With systemd the waiting process is a transient unit in the namespace of the installation, with our variables."""
    command = unit_command("meshdns-revert-ab", "/run/netns/pod", ["python", "-m", "x"], {"PYTHONPATH": "/a:/b"})
    assert "--setenv=PYTHONPATH=/a:/b" in command
    assert command[:2] == ["systemd-run", "--quiet"]
    assert "--unit=meshdns-revert-ab" in command
    assert "--property=NetworkNamespacePath=/run/netns/pod" in command
    assert command[-4:] == ["--", "python", "-m", "x"]
    assert not any("Namespace" in word for word in unit_command("u", "", ["true"], {}))
