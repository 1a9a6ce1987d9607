"""Steps that make the system group and user of the resolver. Door: shadow's programs.

By groupadd(8) and useradd(8), which choose a free id; systemd-sysusers would too, but takes nothing back. An account
that was there before is used as it is, and stays.
"""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass
from typing import ClassVar, Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.system.runner import run
from meshdns.init.vm.step import Look, Note, Standing, StepError

LAST_SYSTEM_ID: Final = 999
"""SYS_UID_MAX in login.defs(5), as every distribution ships it: who is above may be a person."""
_VERBS: Final = ("create", "created", "remove", "removed")


@dataclass(frozen=True, slots=True)
class Group:
    """A system group."""

    kind: ClassVar[str] = "group"
    verbs: ClassVar[tuple[str, str, str, str]] = _VERBS
    at: str

    def stands(self, note: Note) -> bool:  # noqa: ARG002 - a step's signature
        """Return whether it is there."""
        return gid_of(self.at) is not None

    def prepare(self, note: Note | None) -> Note:
        """Note whether it is we who make it."""
        return note or {"made": gid_of(self.at) is None}

    def do(self, note: Note) -> Note:
        """Make it, unless it is there."""
        if gid_of(self.at) is None:
            _change("groupadd", "--system", self.at)
        return {**note, "id": gid_of(self.at)}

    @classmethod
    def look(cls, at: str, note: Note) -> Look:  # noqa: ARG003
        """Return whether it is there, with its number."""
        return _look("gid", gid_of(at))

    @classmethod
    def undo(cls, at: str, note: Note) -> str:
        """Remove it if we made it; with the user it may be gone already."""
        return _remove("groupdel", at, note, gid_of(at))


@dataclass(frozen=True, slots=True)
class User:
    """A system user that cannot log in, in the group of its name."""

    kind: ClassVar[str] = "user"
    verbs: ClassVar[tuple[str, str, str, str]] = _VERBS
    at: str

    def stands(self, note: Note) -> bool:  # noqa: ARG002 - a step's signature
        """Return whether it is there."""
        return uid_of(self.at) is not None

    def prepare(self, note: Note | None) -> Note:
        """Note whether it is we who make it."""
        return note or {"made": uid_of(self.at) is None}

    def do(self, note: Note) -> Note:
        """Make it, unless it is there."""
        if uid_of(self.at) is None:
            home = ("--home-dir", "/nonexistent", "--no-create-home", "--shell", "/usr/sbin/nologin")
            _change("useradd", "--system", "--gid", self.at, *home, "--comment", "meshdns resolver", self.at)
        return {**note, "id": uid_of(self.at)}

    @classmethod
    def look(cls, at: str, note: Note) -> Look:  # noqa: ARG003
        """Return whether it is there, with its number."""
        return _look("uid", uid_of(at))

    @classmethod
    def undo(cls, at: str, note: Note) -> str:
        """Remove it if we made it."""
        return _remove("userdel", at, note, uid_of(at))


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


def _look(what: str, number: int | None) -> Look:
    return Look(Standing.MISSING) if number is None else Look(Standing.DONE, f"{what} {number}")


def _remove(program: str, name: str, note: Note, number: int | None) -> str:
    if not note["made"] or number is None:
        return ""
    if number != note.get("id", number):
        return f"{name}: its id is {number}, and we made one with {note['id']}"
    _change(program, name)
    return ""


def _change(*command: str) -> None:
    try:
        done = run(command)
    except PreflightError as error:
        raise StepError(str(error)) from error
    if done.exit_code:
        raise StepError(" ".join(done.errors.split()) or f"{command[0]} ends with {done.exit_code}")
