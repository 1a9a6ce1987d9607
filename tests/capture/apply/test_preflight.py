"""Before rules are loaded: what would make them void is told."""

from __future__ import annotations

import os
import subprocess

import pytest
from proving import MESHDNS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a user namespace that maps it alone")

INSTALL = "capture install --backend nft --family ipv4 --dns-servers 192.0.2.1"
CASES = {
    "those of a pod": ("", ["--proxy-uid 1337", "--proxy-gid 1337"]),
    "mapped ones": ("--proxy-uid 0 --proxy-gid 0", []),
    "everybody else's": (
        "--proxy-uid 0 --proxy-gid 0 --exclude-uid 7 --owner-group 8",
        ["--exclude-uid 7", "--owner-group 8"],
    ),
}


@pytest.mark.parametrize(("options", "named"), CASES.values(), ids=CASES)
def test_owners_that_this_user_namespace_does_not_have(options: str, named: list[str]) -> None:
    """Each id that nobody here can have is a warning with its option, and no other is."""
    alone = ["unshare", "--map-root-user", "--net", MESHDNS]
    done = subprocess.run(
        [*alone, *INSTALL.split(), *options.split()], capture_output=True, text=True, check=True, timeout=30
    )
    assert [line.split(":")[2].strip() for line in done.stderr.splitlines()] == named
    assert all("nobody can run as it" in line for line in done.stderr.splitlines())
