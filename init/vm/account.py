"""Steps that make the system group and user of the resolver. Door: shadow's programs.

By groupadd(8) and useradd(8), which choose a free id; systemd-sysusers would too, but takes nothing back. An account
that was there before is used as it is, and stays.
"""

from __future__ import annotations

import grp
import pwd
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.system.runner import run
from meshdns.init.vm.step import Look, Note, Standing, StepError

LAST_SYSTEM_ID: Final = 999
"""SYS_UID_MAX in login.defs(5), as every distribution ships it: who is above may be a person."""


def uid_of(name: str) -> int | None:
    """Return a user's number, None where there is no such user."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def gid_of(name: str) -> int | None:
    """Return a group's number, None where there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


@dataclass(frozen=True, slots=True)
class _Account(ABC):
    """A name with a number: made unless it is there, and removed if it is we who made it."""

    verbs: ClassVar[tuple[str, str, str, str]] = ("create", "created", "remove", "removed")
    number_is: ClassVar[str]
    maker: ClassVar[str]
    remover: ClassVar[str]
    at: str

    @staticmethod
    @abstractmethod
    def number_of(name: str) -> int | None:
        """Return its number, None where there is no such name."""

    def _options(self) -> tuple[str, ...]:
        """Return what its maker is told besides its name."""
        return ("--system",)

    def stands(self, note: Note) -> bool:  # noqa: ARG002 - a step's signature
        """Return whether it is there."""
        return self.number_of(self.at) is not None

    def prepare(self, note: Note | None) -> Note:
        """Note whether it is we who make it."""
        return note or {"made": self.number_of(self.at) is None}

    def do(self, note: Note) -> Note:
        """Make it, unless it is there."""
        if self.number_of(self.at) is None:
            _change(self.maker, *self._options(), self.at)
        return {**note, "id": self.number_of(self.at)}

    @classmethod
    def look(cls, at: str, note: Note) -> Look:  # noqa: ARG003 - a step's signature
        """Return whether it is there, with its number."""
        number = cls.number_of(at)
        return Look(Standing.MISSING) if number is None else Look(Standing.DONE, f"{cls.number_is} {number}")

    @classmethod
    def undo(cls, at: str, note: Note) -> str:
        """Remove it if we made it; a group may be gone with its user already."""
        number = cls.number_of(at)
        if not note["made"] or number is None:
            return ""
        if number != note.get("id", number):
            return f"{at}: its id is {number}, and we made one with {note['id']}"
        _change(cls.remover, at)
        return ""


@dataclass(frozen=True, slots=True)
class Group(_Account):
    """A system group."""

    kind: ClassVar[str] = "group"
    number_is: ClassVar[str] = "gid"
    maker: ClassVar[str] = "groupadd"
    remover: ClassVar[str] = "groupdel"
    number_of = staticmethod(gid_of)


@dataclass(frozen=True, slots=True)
class User(_Account):
    """A system user that cannot log in, in the group of its name."""

    kind: ClassVar[str] = "user"
    number_is: ClassVar[str] = "uid"
    maker: ClassVar[str] = "useradd"
    remover: ClassVar[str] = "userdel"
    number_of = staticmethod(uid_of)

    def _options(self) -> tuple[str, ...]:
        home = ("--home-dir", "/nonexistent", "--no-create-home", "--shell", "/usr/sbin/nologin")
        return ("--system", "--gid", self.at, *home, "--comment", "meshdns resolver")


def _change(*command: str) -> None:
    try:
        done = run(command)
    except PreflightError as error:
        raise StepError(str(error)) from error
    if done.exit_code:
        raise StepError(" ".join(done.errors.split()) or f"{command[0]} ends with {done.exit_code}")
