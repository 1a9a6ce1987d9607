"""Fixtures: the machines that tests boot. Every test has its own copy of the file system."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from vm import image
from vm.machine import Machine, machine

PRINTED = "printed"


@pytest.fixture(scope="session")
def images() -> Path:
    """Return the directory of the file systems and wheels that `make test-vm` has just made."""
    return image.IMAGES


@pytest.fixture
def boot(images: Path, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Yield a function that gives a root file system to boot, `bare` or `installed`: what is written to it is lost."""
    with contextlib.ExitStack() as stack:
        yield lambda kind: stack.enter_context(image.writable(images / kind, tmp_path))


@pytest.fixture
def vm(boot: Callable[[str], Path], images: Path) -> Iterator[Machine]:
    """Yield a running machine with meshdns installed in /opt/meshdns, not onboarded; wheels are in /wheels."""
    with machine(boot("installed"), f"--bind-ro={images}/wheels:/wheels") as running:
        yield running


@pytest.fixture
def onboarded(vm: Machine) -> Machine:
    """Return the same, onboarded with the entries in /srv/entries."""
    vm.run("meshdns", "vm", "onboard", "--manifests", "/srv/entries")
    return vm


@pytest.fixture
def bare(boot: Callable[[str], Path], images: Path) -> Iterator[Machine]:
    """Yield a machine without meshdns; the script, a wheel and the lock stand in /srv/release."""
    with machine(boot("bare"), f"--bind-ro={images}/wheels:/wheels") as running:
        release = running.root / "srv" / "release"
        release.mkdir()
        tree = (image.TREE / "init" / "onboard-vm.sh", image.TREE / "requirements.lock")
        for file in (*tree, *(images / "wheels").glob("meshdns-*.whl")):
            shutil.copy(file, release)
        running.shell("systemctl start network-online.target")
        yield running


def pytest_terminal_summary(terminalreporter: Any) -> None:  # noqa: ANN401 - pytest gives it no public type
    """Print what tests have to show."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == PRINTED:
                terminalreporter.write_line(text)
