"""No test here onboards the machine it runs on: steps are at paths of a test's own, and no systemd is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshdns.init.vm import systemd


@pytest.fixture(autouse=True)
def without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Be a machine where systemd does not run, such as a chroot."""
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "no systemd")
