"""`meshdns vm` on the command line, over a manifest of a test's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from meshdns.init.cli import run
from meshdns.init.vm import layout, walk
from meshdns.init.vm.manifest import Manifest
from meshdns.init.vm.place import File


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have manifest and units at places of the test's own."""
    monkeypatch.setattr(layout, "ETC", tmp_path / "etc")
    monkeypatch.setattr(layout, "UNITS", tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Onboard one file."""
    path = tmp_path / "settings.yaml"
    walk.onboard([File(str(path), b"a: 1\n")], Manifest(layout.ETC), lambda _: None)
    return path


def test_a_machine_that_was_never_onboarded(capsys: pytest.CaptureFixture[str]) -> None:
    """Status has nothing to tell of it and exits with 3; offboard has nothing to do."""
    assert run(["vm", "status"]) == 3
    assert "not onboarded" in capsys.readouterr().err
    assert run(["vm", "offboard", "--dry-run"]) == 0
    assert capsys.readouterr().out == "nothing to do\n"


def test_status_for_people_and_for_programs(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both say the same of each step, and that lookups do not reach a resolver that does not run."""
    assert run(["vm", "status"]) == 10
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("onboarded, by meshdns ")
    assert lines[1:] == [f"done: file {settings}", "lookups: do not reach the resolver"]
    settings.unlink()
    assert run(["vm", "status", "--json"]) == 10
    document = json.loads(capsys.readouterr().out)
    assert document["steps"] == [{"kind": "file", "at": str(settings), "standing": "missing", "detail": ""}]
    assert (document["complete"], document["lookups"]) == (True, False)


@pytest.mark.root
def test_offboard_and_again(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything goes, step by step; the second time there is nothing to do."""
    assert run(["vm", "offboard", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"would remove file {settings}\n"
    assert settings.exists()
    assert run(["vm", "offboard"]) == 0
    assert capsys.readouterr().out == f"removed file {settings}\noffboarded: the machine is as before\n"
    assert not settings.exists()
    assert run(["vm", "offboard"]) == 0
    assert capsys.readouterr().out == "nothing to do\n"


@pytest.mark.root
def test_an_ordinary_users_plan_says_that_it_takes_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What offboard would do anybody may ask; that it takes root is said before somebody relies on it."""
    monkeypatch.setattr(layout, "ETC", Path("/no/machine"))
    os.seteuid(65534)
    try:
        code = run(["vm", "offboard", "--dry-run"])
    finally:
        os.seteuid(0)
    assert code == 0
    assert capsys.readouterr() == ("nothing to do\n", "meshdns: warning: offboarding takes root: run it with sudo\n")


@pytest.mark.root
def test_only_one_at_a_time(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While somebody onboards or offboards, another one is turned away with 3, and nothing is taken back."""
    with walk.alone():
        assert run(["vm", "offboard"]) == 3
    assert "another `meshdns vm` is at work" in capsys.readouterr().err
    assert settings.exists()
