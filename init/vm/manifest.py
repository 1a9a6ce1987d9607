"""The manifest: what was done to this machine, step by step, and what was there before. Door: its file.

It is written before each step, at once (rename) and to the disk (fsync), so that whatever a run is killed in, the next
one knows. It stands in /etc, where only root writes: what it says is undone by root.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meshdns.init.errors import MissingError
from meshdns.init.version import VERSION
from meshdns.init.vm.step import Note, Step

NAME: Final = "onboarded.json"
_NEW: Final = f"{NAME}.new"
FORMAT: Final = 1
"""Of the file. A version of meshdns reads all formats up to its own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step that was begun: how it is found again, and what it noted."""

    kind: str
    at: str
    note: Note


class Manifest:
    """The manifest in `directory`, which comes and goes with it unless it was there before."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self.version = VERSION
        self.is_complete = False
        self._made_directory = not directory.exists()
        self._entries: dict[tuple[str, str], Note] = {}
        self.is_new = not self._read()

    def __iter__(self) -> Iterator[Entry]:
        return iter([Entry(kind, at, note) for (kind, at), note in self._entries.items()])

    def note(self, step: Step) -> Note | None:
        """Return what an earlier run noted of a step."""
        return self._entries.get((step.kind, step.at))

    def record(self, step: Step, note: Note) -> None:
        """Write a step's note down; what was not known before stands behind what was."""
        self._entries[step.kind, step.at] = note
        self.is_complete = False
        self.write()

    def strike(self, entry: Entry) -> None:
        """Forget a step that has been taken back."""
        del self._entries[entry.kind, entry.at]
        self.is_complete = False
        self.write()

    def complete(self) -> None:
        """Note that every step was done, by this version."""
        if not self.is_complete or self.version != VERSION:
            self.is_complete, self.version = True, VERSION
            self.write()

    def write(self) -> None:
        """Put the file in place of the old one. With a directory that we make: both at once. MissingError."""
        try:
            self._write()
        except OSError as error:
            raise MissingError(f"cannot write {self.path}: {error.strerror}") from error

    def _write(self) -> None:
        directory = self.path.parent
        place = _beside(directory) if not directory.exists() else directory
        if place != directory:
            shutil.rmtree(place, ignore_errors=True)  # of a killed run
            place.mkdir(mode=0o755)
            place.chmod(0o755)  # whatever the umask
        new = place / _NEW
        with new.open("w", encoding="utf-8") as file:
            json.dump(self._document(), file, indent=2)
            file.write("\n")
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        new.replace(place / NAME)
        _sync(place)
        if place != directory:
            place.rename(directory)
            _sync(directory.parent)
        self.is_new = False

    def remove(self) -> str:
        """Remove the file, and its directory where we made it; returns what was kept, empty for nothing.

        What a run has left that was killed before its first step goes too.
        """
        directory = self.path.parent
        shutil.rmtree(_beside(directory), ignore_errors=True)
        for path in (self.path, self.path.with_name(_NEW)):
            path.unlink(missing_ok=True)
        if not self._made_directory or not directory.exists():
            return ""
        try:
            directory.rmdir()
        except OSError:
            return f"{directory}: it holds files that were not made by onboarding"
        return ""

    def _document(self) -> dict[str, Any]:
        steps = [{"kind": entry.kind, "at": entry.at, "note": entry.note} for entry in self]
        return {
            "format": FORMAT,
            "version": self.version,
            "complete": self.is_complete,
            "made_directory": self._made_directory,
            "steps": steps,
        }

    def _read(self) -> bool:
        try:
            text = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise MissingError(f"cannot read {self.path}: {error.strerror}") from error
        try:
            document = json.loads(text)
            if document["format"] > FORMAT:
                raise MissingError(f"cannot use {self.path}: meshdns {document['version']} wrote it: use that version")
            self.version = str(document["version"])
            self.is_complete = bool(document["complete"])
            self._made_directory = bool(document["made_directory"])
            self._entries = {(str(step["kind"]), str(step["at"])): dict(step["note"]) for step in document["steps"]}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MissingError(f"cannot use {self.path}: it is not what `vm onboard` wrote: {error}") from error
        return True


def _beside(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.new")


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
