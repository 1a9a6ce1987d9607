"""The units, as systemd sees them: no complaint, little exposed, no more privilege than they say."""

from __future__ import annotations

import re

import pytest
from vm.machine import Machine

UNITS = ("meshdns-resolver.service", "meshdns-capture.service", "meshdns-watch.service")
OK = 5.0
"""systemd-analyze(1), security: below this it says OK or SAFE."""


@pytest.fixture
def units(onboarded: Machine) -> Machine:
    return onboarded


def test_units(units: Machine) -> None:
    """`systemd-analyze` finds no fault with any, and the exposure of each is OK or better."""
    for unit in UNITS:
        verified = units.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}")
        assert (verified.stdout + verified.stderr) == "", unit
        told = units.shell(f"systemd-analyze security --no-pager {unit}")
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
        assert exposure, told
        assert float(exposure[1]) < OK, unit


def test_privileges(units: Machine) -> None:
    """The resolver has no capability and cannot get one; who changes rules may do that and nothing else."""
    net_admin = 1 << 12
    for unit, allowed in ((UNITS[0], 0), (UNITS[2], net_admin)):
        pid = units.shell(f"systemctl show --property=MainPID --value {unit}").strip()
        status = dict(
            line.split(":\t", 1) for line in units.shell(f"cat /proc/{pid}/status").splitlines() if ":\t" in line
        )
        assert [int(status[name], 16) & ~allowed for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 4, unit
        assert status["NoNewPrivs"] == "1", unit
        assert (status["Uid"].split()[0] == "0") is (allowed != 0), unit
