"""Network namespaces: who enters one leaves it again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import Namespace, namespace

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


def _inode() -> int:
    return Path(OWN).stat().st_ino
