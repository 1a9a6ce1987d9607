"""The step that installs the rules, with the commands that everybody uses: install on trial, verify, confirm.

If verification fails, or this process is killed before it confirms, what was there before comes back by itself.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.system.runner import Outcome, run
from meshdns.init.vm import layout
from meshdns.init.vm.step import Look, Note, Standing, StepError
from meshdns.init.vm.systemd import command, flush_caches, is_active

MESHDNS: Final = (sys.executable, "-I", "-m", "meshdns.init.cli")
"""This program, as units run it as well: -I keeps PYTHONPATH and the user's own packages out."""
WAIT_S: Final = 120
"""For `verify`, which waits for packets that must not arrive."""
PREFLIGHT: Final = 3
"""The exit code of a command that lacks a privilege or a program."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a settings file, `at`."""

    kind: ClassVar[str] = "rules"
    verbs: ClassVar[tuple[str, str, str, str]] = ("install", "installed", "uninstall", "uninstalled")
    at: str
    commit_timeout_s: float

    def stands(self, note: Note) -> bool:  # noqa: ARG002 - a step's signature
        """Return whether they are there, and to stay."""
        return self.look(self.at, {}).standing is Standing.DONE

    def prepare(self, note: Note | None) -> Note:
        """Note nothing: the kernel holds what is needed to remove them."""
        return note or {}

    def do(self, note: Note) -> Note:
        """Install them on trial, prove with packets that they work, keep them."""
        if is_active(layout.WATCH):
            # Of another version, it would put that one's rules back. A later step starts it.
            command("stop", layout.WATCH)
        _meshdns("install", "--config", self.at, "--commit-timeout", f"{self.commit_timeout_s:g}")
        _meshdns("verify", "--config", self.at)
        found = json.loads(_capture("status", "--json").output)
        if found["confirm_within_s"] is not None:
            _meshdns("confirm")
        flush_caches()
        return {**note, "backend": found["backend"]}

    @classmethod
    def look(cls, at: str, note: Note) -> Look:  # noqa: ARG003
        """Return whether the rules of that file are installed."""
        wanted = ("--config", at) if Path(at).exists() else ()
        done = _capture("status", "--json", "--check", *wanted)
        if done.exit_code == PREFLIGHT:
            return Look(Standing.UNSEEN, _cause(done))
        if not wanted:
            return Look(Standing.MISSING, f"there is no {at}")
        if done.exit_code:
            return Look(Standing.MISSING, _cause(done) if done.errors else "not as they should be")
        found = json.loads(done.output)
        if found["trial_abandoned"]:
            return Look(Standing.MISSING, "their trial was not confirmed, and nobody ends it")
        if found["confirm_within_s"] is not None:
            return Look(Standing.MISSING, f"to be confirmed within {found['confirm_within_s']:.0f} s")
        return Look(Standing.DONE)

    @classmethod
    def undo(cls, at: str, note: Note) -> str:  # noqa: ARG003
        """Remove them, whatever configuration made them; StepError where what they went in by is gone."""
        _meshdns("uninstall")
        if "backend" in note:
            _meshdns("uninstall", "--backend", note["backend"])
        flush_caches()
        return ""


def _meshdns(*arguments: str) -> None:
    done = _capture(*arguments)
    if done.exit_code:
        raise StepError(_cause(done), done.exit_code)


def _capture(*arguments: str) -> Outcome:
    try:
        return run([*MESHDNS, "capture", *arguments], timeout_s=WAIT_S)
    except PreflightError as error:
        raise StepError(str(error)) from error


def _cause(done: Outcome) -> str:
    lines = [line.removeprefix("meshdns: ") for line in done.errors.splitlines() if ": warning: " not in line]
    return lines[-1] if lines else f"it ended with {done.exit_code}"
