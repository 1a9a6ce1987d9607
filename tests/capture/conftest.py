"""What every test of capture stands on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_xtables_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the lock of legacy iptables apart: there is one for the whole machine, whatever the namespace."""
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
