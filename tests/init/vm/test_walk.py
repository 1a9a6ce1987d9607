"""The four walks, over steps at paths of a test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshdns.init.errors import LeftoverError, MissingError, UndoneError
from meshdns.init.vm import walk
from meshdns.init.vm.manifest import FORMAT, Manifest
from meshdns.init.vm.place import Directory, File
from meshdns.init.vm.step import Standing, Step

NOBODY = 65534


class Machine:
    """A directory to onboard."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc = root / "etc"
        self.settings = self.etc / "settings.yaml"
        self.told: list[str] = []

    def steps(self, text: str = "a: 1\n") -> list[Step]:
        return [Directory(str(self.root / "state"), whole=True), File(str(self.settings), text.encode())]

    def onboard(self, steps: list[Step] | None = None) -> bool:
        return walk.onboard(steps or self.steps(), Manifest(self.etc), self.told.append)

    def offboard(self) -> bool:
        return walk.offboard(Manifest(self.etc), self.told.append)

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_each_step_is_told_and_done_once(machine: Machine) -> None:
    """A second run with the same options has nothing to do, says nothing and writes nothing."""
    planned = list(walk.plan(machine.steps(), Manifest(machine.etc)))
    assert planned == [f"would create directory {machine.root}/state", f"would write file {machine.settings}"]
    assert machine.onboard()
    assert [line.split()[0] for line in machine.told] == ["created", "wrote"]
    assert list(walk.plan(machine.steps(), Manifest(machine.etc))) == []
    written = Manifest(machine.etc).path.stat().st_mtime_ns
    machine.told.clear()
    assert not machine.onboard()
    assert machine.told == []
    assert Manifest(machine.etc).path.stat().st_mtime_ns == written


@pytest.mark.root
def test_what_cannot_be_seen_is_not_planned(machine: Machine) -> None:
    """Of a step that this user may not look at nobody claims that it is to be done."""
    path = machine.root / "closed" / "file"
    path.parent.mkdir(mode=0o700)
    step, manifest = File(str(path), b""), Manifest(machine.etc)
    os.seteuid(NOBODY)
    try:
        (planned,) = walk.plan([step], manifest)
    finally:
        os.seteuid(0)
    assert planned.startswith(f"cannot tell whether it would write file {path}: ")
    assert "Permission denied" in planned


def test_other_options_are_gone_over_to(machine: Machine) -> None:
    """A run with other options does what differs, and takes back steps that are none any more."""
    machine.onboard([*machine.steps(), File(str(machine.etc / "old.unit"), b"old\n")])
    machine.told.clear()
    assert machine.onboard(machine.steps("a: 2\n"))
    assert machine.told == [f"wrote file {machine.settings}", f"removed file {machine.etc}/old.unit"]
    assert machine.names() == ["etc", "etc/onboarded.json", "etc/settings.yaml", "state"]
    assert machine.offboard()
    assert machine.names() == []


def test_a_first_run_that_fails_is_taken_back(machine: Machine) -> None:
    """A machine that cannot be onboarded is as before, and the error names the step."""
    with pytest.raises(UndoneError, match=r"cannot write file .*/no/where: .*No such file.*; everything is as before"):
        machine.onboard([*machine.steps(), File(str(machine.root / "no/where"), b"")])
    assert machine.names() == []


def test_a_later_run_that_fails_leaves_what_it_did(machine: Machine) -> None:
    """A machine that was onboarded stays so; what a failing run changed is known, and the next one goes on."""
    machine.onboard()
    with pytest.raises(UndoneError, match="earlier steps stay"):
        machine.onboard([*machine.steps("a: 2\n"), File(str(machine.root / "no/where"), b"")])
    assert not Manifest(machine.etc).is_complete
    assert machine.onboard(machine.steps("a: 2\n"))
    assert Manifest(machine.etc).is_complete
    assert machine.offboard()
    assert machine.names() == []


def test_what_cannot_be_taken_back_is_named_and_the_rest_is(machine: Machine) -> None:
    """A step that cannot be undone keeps nobody from undoing the others, and is tried again."""
    machine.onboard()
    in_the_way = machine.settings.with_name("settings.yaml.meshdns-new")
    in_the_way.mkdir()
    with pytest.raises(LeftoverError, match=r"cannot remove file .*settings.yaml: .*: all else is taken back"):
        machine.offboard()
    assert not (machine.root / "state").exists()
    assert machine.settings.exists()
    in_the_way.rmdir()
    assert machine.offboard()
    assert machine.names() == []


def test_status_tells_what_is_missing_and_what_is_edited(machine: Machine) -> None:
    """Each step is done, edited or missing, as it is now."""
    machine.onboard()
    machine.settings.write_text("edited\n")
    (machine.root / "state").rmdir()
    standings = [one.look.standing for one in walk.status(Manifest(machine.etc))]
    assert standings == [Standing.MISSING, Standing.EDITED]


def test_files_in_our_directory_stay_with_it(machine: Machine) -> None:
    """A directory that we made stays when somebody has put files into it, and that is told."""
    machine.onboard()
    (machine.etc / "mine.yaml").write_text("mine\n")
    assert not machine.offboard()
    assert machine.names() == ["etc", "etc/mine.yaml"]
    assert machine.told[-1].startswith(f"kept {machine.etc}: ")
    assert machine.offboard()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not what `vm onboard` wrote"),
        ("[]", "not what `vm onboard` wrote"),
        ('{"format": 1}', "not what `vm onboard` wrote"),
        (f'{{"format": {FORMAT + 1}, "version": "9.9.9"}}', "meshdns 9.9.9 wrote it: use that version"),
    ],
)
def test_a_manifest_that_is_none_is_refused(machine: Machine, text: str, message: str) -> None:
    """Nothing is undone by a manifest that cannot be understood, and it stays for who can."""
    machine.etc.mkdir()
    (machine.etc / "onboarded.json").write_text(text)
    with pytest.raises(MissingError, match=message):
        machine.offboard()
    assert (machine.etc / "onboarded.json").read_text() == text
