"""Steps that put something into the file system. Door: files, directories and links.

What stood in a file's place is kept beside it under another name and renamed back: its owner, mode and times stay. What
somebody has edited since is never removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from meshdns.init.vm import systemd
from meshdns.init.vm.step import Look, Note, Standing, StepError

T = TypeVar("T")

BEFORE: Final = ".meshdns-before"
"""Ends the name of what was there before."""
NEW: Final = ".meshdns-new"
"""Ends the name of what is being written."""
SAVED: Final = ".meshdns-saved"
"""Ends the name of what was ours and has been edited."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory. One that is `whole` ours goes with all that is in it, another one only when it is empty."""

    kind: ClassVar[str] = "directory"
    verbs: ClassVar[tuple[str, str, str, str]] = ("create", "created", "remove", "removed")
    at: str
    mode: int = 0o755
    whole: bool = False

    def stands(self, note: Note) -> bool:  # noqa: ARG002 - a step's signature
        """Return whether it is there."""
        return Path(self.at).is_dir()

    def prepare(self, note: Note | None) -> Note:
        """Note whether it is we who make it."""
        return note or {"made": not os.path.lexists(self.at), "whole": self.whole}

    def do(self, note: Note) -> Note:
        """Make it, with its mode whatever the umask is."""
        try:
            Path(self.at).mkdir(exist_ok=True)
            if note["made"]:
                Path(self.at).chmod(self.mode)
        except OSError as error:
            raise StepError(_cause(error)) from error
        return note

    @classmethod
    def look(cls, at: str, note: Note) -> Look:  # noqa: ARG003
        """Return whether it is there."""
        return Look(Standing.DONE if Path(at).is_dir() else Standing.MISSING)

    @classmethod
    def undo(cls, at: str, note: Note) -> str:
        """Remove it if we made it."""
        if not note["made"] or not os.path.lexists(at):
            return ""
        try:
            if note["whole"]:
                shutil.rmtree(at)
            else:
                Path(at).rmdir()
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return f"{at}: it holds files that were not made by onboarding"
            raise StepError(_cause(error)) from error
        return ""


@dataclass(frozen=True, slots=True)
class _Placed(ABC):
    """What takes a path, and gives way again to what was there."""

    at: str

    @abstractmethod
    def _make(self, path: Path) -> None:
        """Make it at a path where nothing is."""

    @abstractmethod
    def _identity(self) -> str:
        """Return what tells it from anything else."""

    def stands(self, note: Note) -> bool:
        """Return whether what was put here last is what is wanted now; an edit of it stands."""
        return bool("done" in note and note["ours"] == [self._identity()] and os.path.lexists(self.at))

    def prepare(self, note: Note | None) -> Note:
        """Note under which name what is there is going to be kept, and what it is that comes in its place."""
        if note is not None:
            return {**note, "ours": [*note["ours"], self._identity()]}
        return {"kept": _free(f"{self.at}{BEFORE}") if os.path.lexists(self.at) else None, "ours": [self._identity()]}

    def do(self, note: Note) -> Note:
        """Keep what is there, and put ours in its place at once."""
        path, new = Path(self.at), Path(f"{self.at}{NEW}")
        try:
            edits = _keep(path, note)
            new.unlink(missing_ok=True)
            self._make(new)
            new.replace(path)
        except OSError as error:
            raise StepError(_cause(error)) from error
        return {**note, "ours": [self._identity()], "done": True, "edits": [*note.get("edits", ()), *edits]}

    @classmethod
    def look(cls, at: str, note: Note) -> Look:
        """Return whether it is there, and still ours."""
        try:
            found = identity(Path(at))
        except PermissionError as error:
            return Look(Standing.UNSEEN, _cause(error))
        if found is None:
            return Look(Standing.MISSING)
        edits = ", ".join(note.get("edits", ()))
        detail = f"what was edited is kept in {edits}" if edits else ""
        return Look(Standing.DONE if found in note["ours"] else Standing.EDITED, detail)

    @classmethod
    def undo(cls, at: str, note: Note) -> str:
        """Remove it, unless it has been edited, and rename back what was there before."""
        return _take_back(at, note)


@dataclass(frozen=True, slots=True)
class File(_Placed):
    """A regular file of root's."""

    kind: ClassVar[str] = "file"
    verbs: ClassVar[tuple[str, str, str, str]] = ("write", "wrote", "remove", "removed")
    content: bytes
    mode: int = 0o644

    def _make(self, path: Path) -> None:
        with path.open("xb") as file:
            file.write(self.content)
            os.fchmod(file.fileno(), self.mode)
            file.flush()
            os.fsync(file.fileno())

    def _identity(self) -> str:
        return _digest(self.content)


@dataclass(frozen=True, slots=True)
class UnitFile(File):
    """A unit's file: systemd is told of every change."""

    kind: ClassVar[str] = "unit"

    def do(self, note: Note) -> Note:
        """Write it; systemd reads it."""
        return _told(File.do(self, note))

    @classmethod
    def undo(cls, at: str, note: Note) -> str:
        """Remove it; systemd forgets it."""
        return _told(_take_back(at, note))


@dataclass(frozen=True, slots=True)
class UnitLink(_Placed):
    """A symbolic link to a unit's file, by which a target wants it."""

    kind: ClassVar[str] = "link"
    verbs: ClassVar[tuple[str, str, str, str]] = ("make", "made", "remove", "removed")
    target: str

    def do(self, note: Note) -> Note:
        """Make it; systemd sees it."""
        return _told(_Placed.do(self, note))

    @classmethod
    def undo(cls, at: str, note: Note) -> str:
        """Remove it; systemd sees that it is gone."""
        return _told(_take_back(at, note))

    def _make(self, path: Path) -> None:
        path.symlink_to(self.target)

    def _identity(self) -> str:
        return f"link to {self.target}"


def _told(result: T) -> T:
    systemd.reload()
    return result


def identity(path: Path) -> str | None:
    """Return what tells the content of a path from any other, None where nothing is."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if path.is_file():
        return _digest(path.read_bytes())
    return "no file" if path.exists() else None


def _keep(path: Path, note: Note) -> list[str]:
    """Keep what is there, of somebody else or edited, under another name; returns the name of what was edited."""
    if "done" not in note:
        # A second name before the first one goes: at no moment is there none.
        if note["kept"] is not None and not os.path.lexists(note["kept"]):
            os.link(path, note["kept"], follow_symlinks=False)
        return []
    if identity(path) in {None, *note["ours"]}:
        return []
    saved = _free(f"{path}{SAVED}")
    path.rename(saved)
    return [saved]


def _take_back(at: str, note: Note) -> str:
    try:
        return _give_way(Path(at), note)
    except OSError as error:
        raise StepError(_cause(error)) from error


def _give_way(path: Path, note: Note) -> str:
    Path(f"{path}{NEW}").unlink(missing_ok=True)
    kept = Path(note["kept"]) if note["kept"] is not None else None
    if kept and "done" not in note and (not os.path.lexists(kept) or _is_same(path, kept)):
        kept.unlink(missing_ok=True)  # what was there has not been touched
        return ""
    edits = [*note.get("edits", ()), *_keep(path, note)]
    path.unlink(missing_ok=True)
    if kept and os.path.lexists(kept):
        kept.rename(path)
    there = ", ".join(edit for edit in edits if os.path.lexists(edit))
    return f"{there}: edited after onboarding" if there else ""


def _is_same(path: Path, other: Path) -> bool:
    return os.path.lexists(path) and os.path.samestat(path.lstat(), other.lstat())


def _free(path: str) -> str:
    """Return the path, or with a number behind it where something has that name."""
    names = (path, *(f"{path}.{number}" for number in range(2, 1000)))
    return next(name for name in names if not os.path.lexists(name))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _cause(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
