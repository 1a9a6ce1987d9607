"""What `meshdns resolver run` is told that cannot be, before anything is opened."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from resolving import MESHDNS


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ("--listen 127.0.0.1:1 --listen 127.0.0.1:1", "--listen 127.0.0.1:1 and --listen 127.0.0.1:1"),
        ("--listen [::1]:1 --listen [0:0::1]:1", "--listen [::1]:1 and --listen [::1]:1"),
        ("--listen 127.0.0.2:1,0.0.0.0:1", "--listen 127.0.0.2:1 and --listen 0.0.0.0:1"),
        ("--listen [::]:1,[::1]:1", "--listen [::]:1 and --listen [::1]:1"),
        ("--relay-listen 127.0.0.1:1,127.0.0.1:1", "--relay-listen 127.0.0.1:1 and --relay-listen 127.0.0.1:1"),
        ("--relay-listen 127.0.0.1:15054", "--admin 127.0.0.1:15054 and --relay-listen 127.0.0.1:15054"),
        ("--relay-listen 0.0.0.0:15053", "--listen 127.0.0.1:15053 and --relay-listen 0.0.0.0:15053"),
        ("--admin [::1]:15001", "--admin [::1]:15001 and --relay-listen [::1]:15001"),
    ],
)
def test_a_port_for_two_listeners_is_a_contradiction(options: str, refusal: str) -> None:
    """Each pair is named, as configuration (exit code 2) and not as a port in use: nobody else has it."""
    command = [*MESHDNS, "resolver", "run", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"cannot listen for {refusal}: one port has one listener: " in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("--listen 127.0.0.1:1,[::1]:1,127.0.0.1:2,[::]:2", id="other families, other ports"),
        pytest.param("--no-relay --listen 127.0.0.1:15001", id="a relay that does not run"),
    ],
)
def test_other_ports_and_families_are_no_contradiction(options: str, tmp_path: Path) -> None:
    """What comes next is looked at, here a file that is missing."""
    command = [
        *MESHDNS,
        "resolver",
        "run",
        "--manifests",
        str(tmp_path / "nothing"),
        "--no-heartbeat",
        *options.split(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "cannot read the manifests" in done.stderr
