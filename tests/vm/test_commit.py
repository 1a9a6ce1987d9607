"""An installation on trial under a booted systemd: its end does not depend on the session that began it."""

from __future__ import annotations

import json

from vm.machine import Machine, until

INSTALL = "/opt/meshdns/bin/meshdns capture install --dns-servers 10.98.0.53"


def test_taken_back_though_its_session_is_killed(vm: Machine) -> None:
    """The whole session that installed is killed at once; after the timeout the rules are gone all the same."""
    script = f"{INSTALL} --commit-timeout 5 && exec sleep infinity"
    vm.run("systemd-run", "-q", "--unit=login", "--", "sh", "-c", script)
    until(lambda: "meshdns" in vm.shell("nft list tables"), "rules on trial")
    until(lambda: _waits_in_a_unit(vm), "waiting unit")
    vm.shell("systemctl kill --signal=KILL --kill-whom=all login")
    assert "meshdns" in vm.shell("nft list tables")
    until(lambda: vm.shell("nft list tables") == "", "end of the trial", within_s=30)
    until(lambda: not _waits_in_a_unit(vm), "end of the waiting unit")
    late = vm.run("meshdns", "capture", "confirm", check=False)
    assert late.returncode == 4
    assert "too late" in late.stderr


def test_confirmed_it_stays(vm: Machine) -> None:
    """Confirmed in time, nothing waits any more, and the rules are there after the timeout."""
    vm.shell(f"{INSTALL} --commit-timeout 5")
    left_s = json.loads(vm.shell("meshdns capture status --json"))["confirm_within_s"]
    assert 0 < left_s <= 5
    vm.run("meshdns", "capture", "confirm")
    until(lambda: not _waits_in_a_unit(vm), "end of the waiting unit", within_s=30)
    assert "meshdns" in vm.shell("nft list tables")
    assert vm.shell("systemctl --failed --no-legend") == ""


def test_the_configuration_before_comes_back(vm: Machine) -> None:
    """What was confirmed before comes back, also in place of a trial whose installer was killed."""
    vm.shell(INSTALL)
    before = vm.shell("nft -s list ruleset")
    vm.shell(f"{INSTALL} --heartbeat-timeout 9 --commit-timeout 5")
    assert "timeout 9s" in vm.shell("nft -s list ruleset")
    until(lambda: "timeout 9s" not in vm.shell("nft -s list ruleset"), "end of the trial", within_s=30)
    assert vm.shell("nft -s list ruleset") == before
    assert vm.run("meshdns", "capture", "status", "--check").returncode == 0


def _waits_in_a_unit(vm: Machine) -> bool:
    return "meshdns-revert-" in vm.shell("systemctl list-units --no-legend --plain 'meshdns-revert-*'")
