"""What every test of capture stands on."""

from __future__ import annotations

from pathlib import Path

import pytest
from capturing import TRIED

# Left out rather than skipped: python-iptables needs a compiler, and has a command of its own (`make test-libiptc`).
collect_ignore = [] if "libiptc" in TRIED else ["apply/test_libiptc.py"]


@pytest.fixture(autouse=True)
def own_xtables_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the lock of legacy iptables apart: there is one for the whole machine, whatever the namespace."""
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))
