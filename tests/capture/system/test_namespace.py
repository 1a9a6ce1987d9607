"""Network namespaces: who enters one leaves it again, and one at a time changes what is in it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import Namespace, namespace
from proving import MESHDNS

from meshdns.capture.system.namespace import OWN, entered

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.mark.parametrize("raised", [None, ValueError, KeyboardInterrupt])
def test_an_entered_namespace_is_left(pod: Namespace, raised: type[BaseException] | None) -> None:
    """After the block the thread is where it was before, whether the block has raised or not."""

    def visited() -> bool:
        before = _inode()
        with contextlib.suppress(ValueError, KeyboardInterrupt), entered(there.path):
            assert _inode() == os.fstat(there.descriptor).st_ino != before
            if raised:
                raise raised
        return _inode() == before

    with namespace() as there:
        assert pod.call(visited)


READ_ONLY = "mount -t tmpfs -o ro tmpfs /run && exec "
HOLDING = """
import time
from meshdns.capture.system.namespace import locked
with locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_at_a_time_where_nothing_can_be_written(pod: Namespace) -> None:
    """Without a place for a file the lock is a socket: a second change waits, gives up with exit 3, and comes after."""
    install = f"{READ_ONLY}{MESHDNS} capture install --dns-servers 10.96.0.10 --family ipv4"
    hold = f"{READ_ONLY}{sys.executable} -c '{HOLDING}'"
    with pod.running("unshare", "--mount", "sh", "-c", hold) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        refused = pod.run("unshare", "--mount", "sh", "-c", install, check=False)
        assert (refused.returncode, "another meshdns has been at it" in refused.stderr) == (3, True)
        assert pod.ruleset() == ""
        holder.kill()
        holder.wait()
        pod.run("unshare", "--mount", "sh", "-c", install)
        assert "10.96.0.10" in pod.ruleset()


def _inode() -> int:
    return Path(OWN).stat().st_ino
