"""Units: systemd asked and told, and the step that has one running. Door: systemctl(1).

Where systemd does not run, as in a chroot, nothing runs and there is nothing to tell.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.system.outlive import BOOTED
from meshdns.capture.system.runner import Outcome, run
from meshdns.init.version import VERSION, commit
from meshdns.init.vm.step import Look, Note, Standing, StepError

CACHES: Final = {
    "systemd-resolved.service": ("resolvectl", "flush-caches"),
    "nscd.service": ("nscd", "--invalidate=hosts"),
}
"""How those are told to forget who keep answers; a program that is merely asked for might be started by that."""
WAIT_S: Final = 60
"""For a unit to start or stop: longer than what its file allows it."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running unit. It is told when one of `inputs` or the program itself is another than when it was started."""

    kind: ClassVar[str] = "service"
    verbs: ClassVar[tuple[str, str, str, str]] = ("start", "started", "stop", "stopped")
    at: str
    inputs: tuple[str, ...]
    change: str = "restart"
    """How it is told: `restart` or `reload`."""

    def stands(self, note: Note) -> bool:
        """Return whether it runs with what is there now."""
        return bool(note["runs"] == self._runs() and is_active(self.at))

    def prepare(self, note: Note | None) -> Note:  # noqa: ARG002 - a step's signature
        """Note that nobody knows what it runs with until it has started."""
        return {"runs": None}

    def do(self, note: Note) -> Note:
        """Start it, or tell it; waits until it is ready."""
        command(self.change if is_active(self.at) else "start", self.at)
        return {**note, "runs": self._runs()}

    def _runs(self) -> str:
        digest = hashlib.sha256(f"{VERSION} {commit()}".encode())
        for path in self.inputs:
            digest.update(Path(path).read_bytes() if Path(path).exists() else b"")
        return digest.hexdigest()

    @classmethod
    def look(cls, at: str, note: Note) -> Look:  # noqa: ARG003
        """Return whether it runs, and its state in systemd's word."""
        state = active_state(at)
        return Look(Standing.DONE if state in {"active", "reloading"} else Standing.MISSING, state)

    @classmethod
    def undo(cls, at: str, note: Note) -> str:  # noqa: ARG003
        """Stop it, and have systemd forget that it ever failed."""
        if BOOTED.is_dir():
            if active_state(at) not in {"inactive", "failed"}:
                command("stop", at)
            _systemctl("reset-failed", at)  # of a unit that has not failed it says so, and that is well
        return ""


def is_active(unit: str) -> bool:
    """Return whether a unit runs."""
    return active_state(unit) == "active"


def active_state(unit: str) -> str:
    """Return `active`, `inactive`, `failed`, …; `inactive` where systemd does not run."""
    if not BOOTED.is_dir():
        return "inactive"
    return _systemctl("show", "--property=ActiveState", "--value", unit).output.strip() or "unknown"


def reload() -> None:
    """Have systemd read its units anew."""
    if BOOTED.is_dir():
        _tell("daemon-reload")


def command(verb: str, unit: str) -> None:
    """Start, stop, restart or reload a unit, and wait for it; StepError with what the unit said last."""
    _tell(verb, unit)


def flush_caches() -> None:
    """Have those forget who keep answers on this machine: what they were told before is not true any more."""
    for unit, flush in CACHES.items():
        if is_active(unit):
            with contextlib.suppress(PreflightError):  # a name that is wrong for seconds is no reason to fail
                run(flush)


def _tell(verb: str, *units: str) -> None:
    done = _systemctl(verb, *units)
    if done.exit_code:
        raise StepError(_last_words(*units) or " ".join(done.errors.split()) or f"systemctl ends with {done.exit_code}")


def _last_words(*units: str) -> str:
    said = [run(["journalctl", "--quiet", "--lines=20", "--output=cat", f"--unit={unit}"]).output for unit in units]
    lines = [line for line in "\n".join(said).splitlines() if line.startswith("meshdns: ")]
    return lines[-1].removeprefix("meshdns: ") if lines else ""


def _systemctl(*arguments: str) -> Outcome:
    try:
        return run(["systemctl", "--no-ask-password", *arguments], timeout_s=WAIT_S)
    except PreflightError as error:
        raise StepError(str(error)) from error
