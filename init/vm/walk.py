"""Four walks over one list of steps: onboard, what it would do, offboard, status.

An error names its step and what is left. A first onboarding that fails is taken back whole; of a later one what has
been done stays, and the manifest knows it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from meshdns.init.errors import LeftoverError, MissingError, UndoneError, UnexpectedError
from meshdns.init.vm import layout
from meshdns.init.vm.kinds import KINDS
from meshdns.init.vm.manifest import Entry, Manifest
from meshdns.init.vm.step import Look, Standing, Step, StepError

Tell = Callable[[str], None]
VERIFICATION_FAILED: Final = 126
STAYS: Final = "earlier steps stay, rules on trial give way to those before: run `meshdns vm onboard` again"


@dataclass(frozen=True, slots=True)
class Stands:
    """One step of the manifest, and how it stands."""

    entry: Entry
    look: Look


def onboard(steps: Sequence[Step], manifest: Manifest, tell: Tell) -> bool:
    """Do what is not done; returns whether there was anything. UndoneError, LeftoverError or UnexpectedError."""
    is_first = manifest.is_new
    changed = not manifest.is_complete
    step: Step | None = None
    try:
        for step in steps:
            changed |= _do(step, manifest, tell)
    except BaseException as error:
        # Whatever it is, an interruption too: a machine that was not onboarded is not left half onboarded.
        cause = f"cannot {step.verbs[0]} {step.kind} {step.at}: {error}" if step else str(error)
        if is_first:
            tell("taking everything back")
            offboard(manifest, tell)
        if isinstance(error, StepError):
            left = "everything is as before" if is_first else STAYS
            failure = UnexpectedError if error.code == VERIFICATION_FAILED else UndoneError
            raise failure(f"{cause}; {left}") from error
        raise
    wanted = {(step.kind, step.at) for step in steps}
    changed |= bool(_take_back([entry for entry in manifest if (entry.kind, entry.at) not in wanted], manifest, tell))
    manifest.complete()
    return changed


def plan(steps: Iterable[Step], manifest: Manifest) -> Iterator[str]:
    """Yield what `onboard` would do, and what only root can tell."""
    for step in steps:
        note = manifest.note(step) or step.prepare(None)
        if step.stands(note):
            continue
        found = step.look(step.at, note)
        what = f"would {step.verbs[0]} {step.kind} {step.at}"
        yield f"cannot tell whether it {what}: {found.detail}" if found.standing is Standing.UNSEEN else what


def offboard(manifest: Manifest, tell: Tell) -> bool:
    """Take back what the manifest knows of, last step first; returns whether all of it is as before.

    LeftoverError: a step could not be taken back; the others were.
    """
    kept = _take_back(manifest, manifest, tell)
    directory = manifest.remove()
    if directory:
        tell(f"kept {directory}")
    return not any((*kept, directory))


def plan_back(manifest: Manifest) -> Iterator[str]:
    """Yield what `offboard` would do."""
    for entry in reversed(list(manifest)):
        if entry.note.get("made", True):
            yield f"would {KINDS[entry.kind].verbs[2]} {entry.kind} {entry.at}"


def status(manifest: Manifest) -> tuple[Stands, ...]:
    """Return how each step of the manifest stands."""
    return tuple(Stands(entry, KINDS[entry.kind].look(entry.at, entry.note)) for entry in manifest)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Be the only one who onboards or offboards this machine; MissingError where somebody does."""
    with contextlib.ExitStack() as held:
        try:
            descriptor = os.open(layout.UNITS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MissingError("cannot begin: another `meshdns vm` is at work on this machine") from error
        except OSError as error:
            raise MissingError(f"cannot begin: {layout.UNITS}: {error.strerror}") from error
        yield


def _do(step: Step, manifest: Manifest, tell: Tell) -> bool:
    note = manifest.note(step)
    if note is not None and step.stands(note):
        return False
    note = step.prepare(note)
    manifest.record(step, note)
    was_there = step.look(step.at, note).standing is Standing.DONE and step.stands(note)
    note = step.do(note)
    manifest.record(step, note)
    if not was_there:
        detail = step.look(step.at, note).detail
        tell(f"{step.verbs[1]} {step.kind} {step.at}{f' ({detail})' if detail else ''}")
    return not was_there


def _take_back(entries: Iterable[Entry], manifest: Manifest, tell: Tell) -> list[str]:
    """Take steps back, the last one first; returns for each what was kept of it, empty for nothing."""
    failures, kept = [], []
    for entry in reversed(list(entries)):
        kind = KINDS[entry.kind]
        try:
            was = kind.look(entry.at, entry.note).standing
            kept.append(kind.undo(entry.at, entry.note))
        except StepError as error:
            failures.append(f"cannot {kind.verbs[2]} {entry.kind} {entry.at}: {error}")
            continue
        manifest.strike(entry)
        if kept[-1]:
            tell(f"kept {kept[-1]}")
        elif was is not kind.look(entry.at, entry.note).standing:
            tell(f"{kind.verbs[3]} {entry.kind} {entry.at}")
    if failures:
        raise LeftoverError(f"{'; '.join(failures)}: all else is taken back: run `meshdns vm offboard` again")
    return kept
