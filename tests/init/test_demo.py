"""The demo shows what it says, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from resolving import MESHDNS

STEPS = 8


def machine() -> tuple[object, ...]:
    """Return what a demo could leave behind: links, mounts, files, processes in namespaces of their own."""
    mounts = Path("/proc/self/mountinfo").read_text()
    return sorted(Path("/sys/class/net").iterdir()), mounts, sorted(Path("/run").glob("*demo*")), strangers()


def strangers() -> list[str]:
    """Return the processes whose network namespace is not ours."""
    ours = Path("/proc/self/ns/net").stat().st_ino
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if "meshdns-demo" in (process / "environ").read_text() or (
                (process / "ns" / "net").stat().st_ino != ours and "demo" in (process / "cmdline").read_text()
            ):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.timeout(90)
def test_every_step_shows_what_it_should() -> None:
    """The demo prints its steps in order, each with commands, and ends with 0 and without a trace."""
    before = machine()
    done = subprocess.run([*MESHDNS, "demo"], capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert re.findall(r"^(\d+)\. ", done.stdout, re.MULTILINE) == [str(step) for step in range(1, STEPS + 1)]
    for shown in ("Could not resolve host", "240.240.0.1", "page of 198.51.100.2", "203.0.113.80", "240.240.0.2"):
        assert shown in done.stdout
    assert machine() == before


def test_a_killed_demo_leaves_nothing() -> None:
    """Whatever kills the demo, the kernel takes its namespaces and processes away."""
    before = machine()
    with subprocess.Popen([*MESHDNS, "demo"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(2.5)
        process.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + 5
    while machine() != before:
        assert time.monotonic() < give_up
        time.sleep(0.1)
