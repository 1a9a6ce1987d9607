"""An installation that is undone unless somebody confirms it: `--commit-timeout` and `confirm`.

What is to come back, and when, stands in a note before anything is changed, and another process waits with it; so it
comes back also when the installing process is killed at any moment. A second installation before the first is confirmed
does not change what comes back: that is the last configuration that was confirmed. The caller holds the lock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Final

from meshdns.capture.apply.backend import AUTO, BACKENDS
from meshdns.capture.apply.choice import held_elsewhere, installed, remove_elsewhere, uninstall_everywhere
from meshdns.capture.apply.install import as_planned_by, inspect, install
from meshdns.capture.apply.record import Record, from_comments, to_comments
from meshdns.capture.errors import CaptureError, ConfirmError, PreflightError
from meshdns.capture.system import notes
from meshdns.capture.system.namespace import locked
from meshdns.capture.system.uninterrupted import uninterrupted
from meshdns.capture.values import dataclass, replace

NOTE: Final = "commit"
POLL_S: Final = 0.5
RETRY_S: Final = 5.0
RETRIES: Final = 60
"""Five minutes of trying: whoever holds the lock or the kernel up is gone by then."""
ATTENDED_WITHIN_S: Final = 10.0
"""A Python comes up in a tenth of this where there is nothing else to do."""
ATTENDED_POLL_S: Final = 0.02
ID_BYTES: Final = 8
WHOLE: Final = notes.MAX_NOTE_BYTES


@dataclass(frozen=True, slots=True)
class Pending:
    """What comes back (None: nothing was installed), and when, in seconds since boot (CLOCK_BOOTTIME)."""

    id: str
    due_s: float
    previous: Record | None
    is_over: bool = False
    """It has come back; kept so that a late `confirm` can say so."""


def pending() -> Pending | None:
    """Return what waits to be confirmed in this namespace, None where nothing does."""
    found = _read()
    return None if found is None or found.is_over else found


def seconds_left() -> float | None:
    """Return how long a confirmation is still waited for, None where nothing is pending or nobody waits any more."""
    found = pending()
    return max(found.due_s - _now_s(), 0.0) if found and not _is_abandoned(found) else None


def abandoned() -> Pending | None:
    """Return what should have come back, and will not: whoever waited with it has been killed."""
    found = pending()
    return found if found and _is_abandoned(found) else None


def _is_abandoned(found: Pending) -> bool:
    # Whoever waits may have been started a moment ago.
    return _now_s() > found.due_s + RETRY_S and not notes.is_attended(_waiting(found.id))


def arm(timeout_s: float, start_waiting: Callable[[str], None]) -> Callable[[], None]:
    """See to it that what is installed now comes back after `timeout_s`; gives a function that takes that back.

    `start_waiting` starts a process that outlives this one and calls `wait` with the id that it is given. Where nothing
    is installed, or nothing with a record that can be read, "what is installed now" is nothing. PreflightError where
    nobody comes to wait.
    """
    earlier = pending()
    if earlier and not _is_abandoned(earlier):
        new = replace(earlier, due_s=_now_s() + timeout_s)
    else:
        # A new id for what was abandoned, or whoever waits from now on would take it up where this is taken back.
        previous = earlier.previous if earlier else inspect(installed(AUTO)).record
        new = Pending(os.urandom(ID_BYTES).hex(), _now_s() + timeout_s, previous)
    _write(new)
    try:
        start_waiting(new.id)
        _await_attendance(new.id)
        # The time runs from when somebody waits.
        _write(replace(new, due_s=_now_s() + timeout_s))
    except BaseException:  # whatever it is goes on, ^C as well; nobody waits, so nothing may be pending
        _restore(earlier)
        raise
    return lambda: _restore(earlier)


def _await_attendance(pending_id: str) -> None:
    deadline = time.monotonic() + ATTENDED_WITHIN_S
    while not notes.is_attended(_waiting(pending_id)):
        if time.monotonic() >= deadline:
            raise PreflightError(
                "cannot start what would bring it back: "
                f"`meshdns capture revert` has not come up within {ATTENDED_WITHIN_S:g} s: nothing was changed"
            )
        time.sleep(ATTENDED_POLL_S)


def disarm() -> None:
    """Nothing comes back any more: what is installed, or removed, from now on is meant to stay so."""
    notes.remove(NOTE)


def end_abandoned() -> None:
    """Nothing comes back any more of a trial that was abandoned: what it installed is meant to stay."""
    if abandoned():
        disarm()


def confirm() -> None:
    """Keep what is installed; ConfirmError where nothing is pending any more."""
    found = _read()
    if found is None:
        raise ConfirmError("cannot confirm: nothing is pending")
    if found.is_over:
        raise ConfirmError("cannot confirm: it is too late, and what was installed before is back")
    if found.due_s <= _now_s():
        is_coming = notes.is_attended(_waiting(found.id))
        how = ", and what was installed before comes back now" if is_coming else f": {ways_out(found)}"
        raise ConfirmError(f"cannot confirm: it is too late{how}")
    disarm()


def ways_out(found: Pending) -> str:
    """Return, for people, how it stands with a trial that was abandoned and what can be done about it."""
    return (
        "the process that was to bring back what was before is gone: "
        f"`meshdns capture revert {found.id}` brings it back, "
        "`meshdns capture install` with the options that are to stay keeps what is there"
    )


def wait(pending_id: str, version: str) -> bool:
    """Wait until that one is due and undo it; returns whether it was undone, and not confirmed or taken back.

    PreflightError where nobody could know that it is waited for.
    `version`: what this meshdns is called, for a record of rules that it plans otherwise than who installed them.
    """
    noted = _noted()
    if noted is None or noted.id != pending_id:
        return False
    with notes.attended(_waiting(pending_id)):
        while (found := pending()) and found.id == pending_id:
            left_s = found.due_s - _now_s()
            if left_s <= 0 and _undo(pending_id, version):
                return True
            time.sleep(min(max(left_s, 0), POLL_S))
    return False


def _undo(pending_id: str, version: str) -> bool:
    for attempt in range(1, RETRIES + 1):
        try:
            with locked(), uninterrupted():
                found = pending()
                if found is None or found.id != pending_id or found.due_s > _now_s():
                    return False
                _bring_back(found.previous, version)
                _write(replace(found, is_over=True, previous=None))
                return True
        except CaptureError:
            if attempt == RETRIES:
                raise
            time.sleep(RETRY_S)
    return False


def _bring_back(previous: Record | None, version: str) -> None:
    if previous is None:
        uninstall_everywhere(AUTO)
        notes.dismiss_watch()
        return
    if previous.backend not in BACKENDS:
        raise PreflightError(f"cannot bring back what was installed: this version has no backend {previous.backend!r}")
    backend = BACKENDS[previous.backend]()
    elsewhere = held_elsewhere(backend)
    install(backend, as_planned_by(previous, version))
    remove_elsewhere(backend, elsewhere)


def _restore(earlier: Pending | None) -> None:
    if earlier:
        _write(earlier)
    else:
        disarm()


def _waiting(pending_id: str) -> str:
    """Return what whoever waits with that one attends to."""
    return f"{NOTE}-{pending_id}"


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _write(pending_now: Pending) -> None:
    previous = "".join(to_comments(pending_now.previous, WHOLE)) if pending_now.previous else None
    document = {"id": pending_now.id, "due_s": pending_now.due_s, "previous": previous, "is_over": pending_now.is_over}
    notes.write(NOTE, json.dumps(document).encode())


def _read() -> Pending | None:
    """Return what was noted about this namespace, None where it may have been about one that is gone.

    A kernel that does not tell the two apart leaves one proof: whoever waits keeps the namespace that it waits in.
    """
    found = _noted()
    return found if found and (notes.are_of_here() or notes.is_attended(_waiting(found.id))) else None


def _noted() -> Pending | None:
    content = notes.read(NOTE)
    if content is None:
        return None
    try:
        document: dict[str, Any] = json.loads(content)
        previous = document["previous"]
        record = None if previous is None else from_comments([str(previous)])
        if previous is not None and record is None:
            return None  # of another version, whose own process waits with it; to us it is not "nothing was installed"
        return Pending(
            id=str(document["id"]),
            due_s=float(document["due_s"]),
            previous=record,
            is_over=bool(document["is_over"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
