"""Files of ours in somebody's place, and somebody's edits of ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshdns.init.vm.place import Directory, File
from meshdns.init.vm.step import Note, Standing, StepError

OLD_S = 1_500_000_000


def done(step: File | Directory, note: Note | None = None) -> Note:
    return step.do(step.prepare(note))


def test_what_was_in_a_files_place_comes_back_as_it_was(tmp_path: Path) -> None:
    """A file that ours replaces comes back: the same inode, so with owner, mode and times."""
    path = tmp_path / "settings.yaml"
    path.write_text("theirs\n")
    path.chmod(0o640)
    os.utime(path, (OLD_S, OLD_S))
    before = path.stat()
    note = done(File(str(path), b"ours\n"))
    assert path.read_text() == "ours\n"
    assert File.undo(str(path), note) == ""
    after = path.stat()
    assert (after.st_ino, after.st_mode, after.st_mtime) == (before.st_ino, before.st_mode, before.st_mtime)
    assert path.read_text() == "theirs\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_file_has_the_mode_that_its_step_says(tmp_path: Path, umask: int) -> None:
    """A file's mode does not depend on the umask of who onboards."""
    before = os.umask(umask)
    try:
        done(File(str(tmp_path / "file"), b"x", mode=0o640))
        done(Directory(str(tmp_path / "directory"), mode=0o750))
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "directory").stat().st_mode & 0o7777 == 0o750


def test_an_edit_stands_until_other_options_are_given(tmp_path: Path) -> None:
    """A file that was edited is not written again for the same options; for others it is kept under another name."""
    path = tmp_path / "settings.yaml"
    same, other = File(str(path), b"a: 1\n"), File(str(path), b"a: 2\n")
    note = done(same)
    path.write_text("a: 3\n")
    assert same.stands(note)
    assert File.look(str(path), note).standing is Standing.EDITED
    assert not other.stands(note)
    note = done(other, note)
    saved = tmp_path / "settings.yaml.meshdns-saved"
    assert (path.read_text(), saved.read_text()) == ("a: 2\n", "a: 3\n")
    assert File.look(str(path), note).standing is Standing.DONE
    assert str(saved) in File.undo(str(path), note)
    assert list(tmp_path.iterdir()) == [saved]


def test_an_edit_is_kept_when_taken_back(tmp_path: Path) -> None:
    """An edited file of ours is renamed, never removed, and does not take the name of an older one."""
    path = tmp_path / "settings.yaml"
    older = tmp_path / "settings.yaml.meshdns-saved"
    older.write_text("older\n")
    note = done(File(str(path), b"ours\n"))
    path.write_text("edited\n")
    kept = File.undo(str(path), note)
    assert kept.startswith(f"{older}.2: ")
    assert sorted(each.read_text() for each in tmp_path.iterdir()) == ["edited\n", "older\n"]


def test_a_file_of_ours_that_is_gone_is_missed_and_written_again(tmp_path: Path) -> None:
    """A file that somebody has removed is missing, is written again, and is no trouble when taken back."""
    path = tmp_path / "settings.yaml"
    step = File(str(path), b"ours\n")
    note = done(step)
    path.unlink()
    assert File.look(str(path), note).standing is Standing.MISSING
    assert not step.stands(note)
    note = done(step, note)
    assert path.read_text() == "ours\n"
    path.unlink()
    assert File.undo(str(path), note) == ""


@pytest.mark.parametrize(
    ("was_there", "whole", "filled", "stays"),
    [
        (False, False, False, False),
        (False, False, True, True),
        (False, True, True, False),
        (True, True, True, True),
        (True, False, False, True),
    ],
)
def test_a_directory_goes_only_if_it_is_ours(
    tmp_path: Path, *, was_there: bool, whole: bool, filled: bool, stays: bool
) -> None:
    """A directory that was there before stays; one that others have put files into stays, unless it is whole ours."""
    path = tmp_path / "directory"
    if was_there:
        path.mkdir()
    note = done(Directory(str(path), whole=whole))
    if filled:
        (path / "entry.yaml").write_text("theirs\n")
    kept = Directory.undo(str(path), note)
    assert path.exists() is stays
    assert bool(kept) is (stays and not was_there)


def test_what_cannot_be_written_is_told_with_its_cause(tmp_path: Path) -> None:
    """A step that cannot be done says which file, and why."""
    with pytest.raises(StepError, match=r"no/settings.yaml.*: No such file or directory"):
        done(File(str(tmp_path / "no" / "settings.yaml"), b""))
