"""Accounts, in an /etc of the test's own: shadow's programs change it, and the machine's stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

FILES = "passwd group shadow gshadow login.defs nsswitch.conf"
ETC = (
    f'at=$(mktemp -d); for file in {FILES}; do cp -a /etc/$file "$at" 2>/dev/null || :; done; mount --bind "$at" /etc; '
    'code=0; "$@" || code=$?; umount /etc; rm -r "$at"; exit $code'
)
ALONE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc")
"""With processes of its own too: userdel refuses to remove whose number has any, in a container perhaps."""
HEAD = """
import grp, pwd, subprocess
from meshdns.init.vm.account import Group, User, gid_of, uid_of
steps = Group("meshdns-test"), User("meshdns-test")
def done():
    return [step.do(step.prepare(None)) for step in steps]
def undone(notes):
    return [step.undo(step.at, note) for step, note in reversed([*zip(steps, notes)])]
def ids():
    return uid_of("meshdns-test"), gid_of("meshdns-test")
"""

pytestmark = pytest.mark.root


@pytest.fixture
def machine() -> Callable[[str], None]:
    """Give a function that runs lines of Python, which assert, where accounts are the test's own."""

    def run(lines: str) -> None:
        program = [sys.executable, "-c", HEAD + lines]
        done = subprocess.run(
            [*ALONE, "sh", "-euc", ETC, "sh", *program],
            capture_output=True, text=True, check=False, timeout=50,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    return run


def test_made_and_removed(machine: Callable[[str], None]) -> None:
    """Both get a number of the system's range, nobody can log in, and undoing leaves neither, once or twice."""
    machine("""
notes = done()
uid, gid = ids()
assert 0 < uid <= 999 and 0 < gid <= 999
entry = pwd.getpwnam("meshdns-test")
assert (entry.pw_gid, entry.pw_shell, entry.pw_dir) == (gid, "/usr/sbin/nologin", "/nonexistent")
assert [step.look(step.at, note).detail for step, note in zip(steps, notes)] == [f"gid {gid}", f"uid {uid}"]
assert undone(notes) == ["", ""]
assert ids() == (None, None)
assert undone(notes) == ["", ""]
""")


def test_what_was_there_stays(machine: Callable[[str], None]) -> None:
    """An account of somebody else's making is used as it is, and survives."""
    machine("""
subprocess.run(["groupadd", "--gid", "901", "meshdns-test"], check=True)
subprocess.run(["useradd", "--uid", "902", "--gid", "901", "--no-create-home", "meshdns-test"], check=True)
notes = done()
assert undone(notes) == ["", ""]
assert ids() == (902, 901)
""")


def test_another_of_the_same_name_stays(machine: Callable[[str], None]) -> None:
    """An account that was made anew since, with another number, is not ours to remove: it is named as kept."""
    machine("""
notes = done()
subprocess.run(["userdel", "meshdns-test"], check=True)
subprocess.run(["useradd", "--uid", "903", "--no-create-home", "meshdns-test"], check=True)
kept = undone(notes)
assert kept[0].startswith("meshdns-test: its id is 903, and we made one with "), kept
assert ids()[0] == 903
""")
