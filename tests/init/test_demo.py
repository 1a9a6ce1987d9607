"""The demo shows what it says, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from resolving import MESHDNS

STEPS = 8


def traces() -> list[str]:
    """Return what a demo could leave behind: its processes, its directories, its half of a veth pair."""
    found = [str(path) for path in Path("/run").glob("meshdns-demo-*")]
    found += [path.name for path in Path("/sys/class/net").glob("pod")]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "meshdns-demo" in line]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"MESHDNS_INSIDE_DEMO=1" in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found


@pytest.mark.timeout(90)
def test_every_step_shows_what_it_should() -> None:
    """The demo prints its steps in order, each with commands, and ends with 0 and without a trace."""
    done = subprocess.run([*MESHDNS, "demo"], capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert re.findall(r"^(\d+)\. ", done.stdout, re.MULTILINE) == [str(step) for step in range(1, STEPS + 1)]
    for shown in ("Could not resolve host", "240.240.0.1", "page of 198.51.100.2", "203.0.113.80", "240.240.0.2"):
        assert shown in done.stdout
    assert traces() == []


def test_a_killed_demo_leaves_nothing() -> None:
    """Whatever kills the demo, the kernel takes its namespaces and processes away."""
    with subprocess.Popen([*MESHDNS, "demo"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(2.5)
        assert traces() != []
        process.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + 30
    while traces():
        assert time.monotonic() < give_up
        time.sleep(0.1)
