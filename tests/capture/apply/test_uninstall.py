"""An `uninstall` that fails has ended nothing: what it could not remove stays on trial, and stays watched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from namespaces import Namespace, namespace
from proving import MESHDNS, capture
from stand_ins import FAILING, stand_ins

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

WANTED = ("--dns-servers", "10.96.0.10", "--family", "ipv4", "--backend", "nft")
WITHIN_S = 20.0


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made
        capture(made, "uninstall", check=False)  # whoever waits ends with the trial


def _uninstall_in_vain(pod: Namespace, folder: Path) -> None:
    environment = stand_ins(folder, ("nft",), FAILING).failing("change")
    done = pod.run(MESHDNS, "capture", "uninstall", environment=environment, check=False)
    assert (done.returncode, "no change today" in done.stderr) == (4, True)
    assert "table inet meshdns" in pod.ruleset()


def _eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False


def test_what_was_not_removed_is_still_on_trial(pod: Namespace, tmp_path: Path) -> None:
    """The trial goes on; a second `uninstall`, which succeeds, ends it."""
    capture(pod, "install", *WANTED, "--commit-timeout", "600")
    _uninstall_in_vain(pod, tmp_path)
    assert "to be confirmed within" in capture(pod, "status").stdout
    capture(pod, "uninstall")
    assert "nothing is pending" in capture(pod, "confirm", check=False).stderr


def test_what_was_not_removed_is_still_watched(pod: Namespace, tmp_path: Path) -> None:
    """The watch still puts the rules back; a second `uninstall`, which succeeds, ends it."""
    capture(pod, "install", *WANTED)
    with pod.running(MESHDNS, "capture", "watch") as watch:
        assert watch.stdout is not None
        assert b"watching the rules" in watch.stdout.readline()
        _uninstall_in_vain(pod, tmp_path)
        pod.run("nft", "flush", "ruleset")
        assert _eventually(lambda: "table inet meshdns" in pod.ruleset())
        assert watch.poll() is None
        capture(pod, "uninstall")
        assert watch.wait(WITHIN_S) == 0
    assert pod.ruleset() == ""
