"""An onboarding that is killed, anywhere."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("killed.py")
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system where fsync is free; a directory of our own is made there
STEPS = 6


@pytest.mark.timeout(300)
def test_killed_before_any_change_it_can_be_finished_and_taken_back() -> None:
    """Wherever a run is killed, the next one finishes it, and offboarding leaves every file as it was."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        done = subprocess.run(
            [sys.executable, PROGRAM, Path(directory) / "root"], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    # Each step is noted before and after, and a note is a file written and renamed.
    assert first > 8 * STEPS
    assert second > STEPS
