"""Notes in /run/meshdns: who attends to something is known by a lock, and asking for it takes nothing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from namespaces import Namespace, namespace

from meshdns.capture.errors import PreflightError
from meshdns.capture.system import notes
from meshdns.capture.system.namespace import about_this

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

KIND = f"test-{os.getpid()}"
ATTENDING = """
import sys, time
from meshdns.capture.system.notes import attended
with attended(sys.argv[1]):
    print("attending", flush=True)
    time.sleep(60)
"""
ASKERS, QUESTIONS = 4, 2000
PLACES = {"it cannot be made": "/proc/meshdns", "read-only": "/proc/sys/net/core"}


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def test_who_asks_is_not_who_attends(pod: Namespace) -> None:
    """Attended to is what somebody alive attends to, however many ask at the same time."""

    def asked() -> list[bool]:
        with ThreadPoolExecutor(ASKERS) as askers:
            return list(askers.map(lambda _: notes.is_attended(KIND), range(QUESTIONS)))

    assert not pod.call(lambda: notes.is_attended(KIND))
    with pod.running(sys.executable, "-c", ATTENDING, KIND) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"attending\n"
        assert all(pod.call(asked))
    assert not any(pod.call(asked))  # killed, it has left its file
    Path(pod.call(lambda: f"{about_this(KIND)}.attended")).unlink()


def test_attendance_ends_with_its_block(pod: Namespace) -> None:
    """Ended or raised, the block leaves nobody who attends and no file."""

    def attend(raised: type[Exception] | None) -> str:
        with contextlib.suppress(ValueError), notes.attended(KIND):
            assert notes.is_attended(KIND)
            if raised:
                raise raised
        assert not notes.is_attended(KIND)
        return f"{about_this(KIND)}.attended"

    assert not Path(pod.call(lambda: attend(None))).exists()
    assert not Path(pod.call(lambda: attend(ValueError))).exists()


@pytest.mark.parametrize("place", PLACES)
def test_who_cannot_attend_says_why(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written, and so nobody could know who attends, that is one of our errors."""
    monkeypatch.setattr(notes, "LOCKS", PLACES[place])
    monkeypatch.setattr("meshdns.capture.system.namespace.LOCKS", PLACES[place])
    with pytest.raises(PreflightError, match="cannot attend to "), notes.attended(KIND):
        raise AssertionError("nobody attends here")
