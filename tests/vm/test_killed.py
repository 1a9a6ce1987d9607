"""SIGKILL between any two steps: lookups work, and the next command finishes the work, forth or back."""

from __future__ import annotations

import itertools

from vm.machine import Machine, kill
from vm.snapshot import difference, snapshot

ONBOARD = ("meshdns", "vm", "onboard", "--manifests", "/srv/entries")


def test_onboarding_is_killed_after_each_step(vm: Machine) -> None:
    """Killed after its nth line, for every other n: names are answered, and the work can be finished or undone."""
    vm.shell("systemctl start network-online.target")
    before = snapshot(vm)
    for count in itertools.count(1, 2):
        was_killed = _kill_after_lines(vm, count, *ONBOARD)
        assert vm.addresses("outside.example") == {"203.0.113.80"}, f"after {count} lines"
        if not was_killed:
            break
        if count % 3 == 0:  # every third time the work is finished first
            vm.run(*ONBOARD)
            assert vm.run("meshdns", "vm", "status").returncode == 0
            assert vm.addresses("auto.internal") == {"240.240.0.1"}
        vm.run("meshdns", "vm", "offboard")
        assert difference(before, snapshot(vm)) == "", f"after {count} lines"
    assert count > 10


def test_offboarding_is_killed_after_each_step(vm: Machine) -> None:
    """The same for the way back: offboarding again, or a restart and offboarding, leaves nothing."""
    vm.shell("systemctl start network-online.target")
    before = snapshot(vm)
    for count in range(1, 30, 4):
        vm.run(*ONBOARD)
        was_killed = _kill_after_lines(vm, count, "meshdns", "vm", "offboard")
        assert vm.addresses("outside.example") == {"203.0.113.80"}, f"after {count} lines"
        vm.run("meshdns", "vm", "offboard")
        assert difference(before, snapshot(vm)) == "", f"after {count} lines"
        if not was_killed:
            return
    raise AssertionError("offboarding prints no end of lines")


def _kill_after_lines(vm: Machine, count: int, *command: str) -> bool:
    """Run a command and kill it when it has printed that many lines; returns whether it was not through by then."""
    with vm.started(*command) as process:
        assert process.stdout
        for _ in range(count):
            if not process.stdout.readline():
                return False
        kill(process)
    return True
