"""`init/onboard-vm.sh` with an /opt and an /etc of the test's own; tests/vm runs it on whole machines."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "init" / "onboard-vm.sh"
ALONE = ("unshare", "--mount", "--propagation", "private", "sh", "-euc")
EMPTY = f"exec 3<{SCRIPT}; mount -t tmpfs none /opt; mount -t tmpfs none /etc\n"
"""The script is opened before: what the tests run from may lie in /opt."""
MANIFEST = "mkdir /etc/meshdns; echo {} >/etc/meshdns/onboarded.json\n"
TAKES = 'echo "meshdns $*"'
BROKEN = "exit 1"
"""What a program does whose Python is gone."""
OTHER_WHEEL = "of another wheel"

pytestmark = pytest.mark.root


def installed(does: str, stamp: str = OTHER_WHEEL) -> str:
    """Return a script that installs a `meshdns` that does this."""
    return f"""mkdir -p /opt/meshdns/bin
    printf '#!/bin/sh\\n%s\\n' '{does}' >/opt/meshdns/bin/meshdns
    chmod 755 /opt/meshdns/bin/meshdns
    echo '{stamp}' >/opt/meshdns/installed-from
    """


def run(directory: Path, before: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a directory, on a machine made by `before`; what is in /opt then is printed last."""
    script = f'{EMPTY}{before}\ncode=0; sh /dev/fd/3 "$@" || code=$?; echo "opt: $(ls /opt)"; exit $code'
    return subprocess.run(
        [*ALONE, script, "sh", *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=100,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PIP_NO_INDEX": "1"},
    )  # fmt: skip


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Return a file that is called like a wheel, and is none."""
    path = tmp_path / "meshdns-0-py3-none-any.whl"
    path.write_text("no wheel")
    return path


def stamp(wheel: Path) -> str:
    """Return what an installation from this wheel is known by."""
    return f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  -"


def test_a_folder_is_never_taken_for_a_name_of_an_index(tmp_path: Path) -> None:
    """A folder that is named without a slash is what pip is given, and not some package of that name."""
    (tmp_path / "meshdns").mkdir()
    done = run(tmp_path, "", "meshdns")
    assert done.returncode == 3, done.stderr
    assert f"'{tmp_path}/meshdns' is not installable" in done.stderr
    assert done.stdout == "opt: \n"


def test_what_does_not_run_is_installed_again(wheel: Path) -> None:
    """The wheel that was installed counts as installed only as long as it runs; what is there stays if pip fails."""
    ran = run(wheel.parent, installed(TAKES, stamp(wheel)), wheel.name)
    assert (ran.returncode, ran.stdout) == (0, "meshdns vm onboard\nopt: meshdns\n")
    again = run(wheel.parent, installed(BROKEN, stamp(wheel)), wheel.name)
    assert again.returncode == 3
    assert "pip install failed" in again.stderr
    assert again.stdout == "opt: meshdns\n"


def test_a_dry_run_replaces_nothing(wheel: Path) -> None:
    """With another wheel `--dry-run` says that it would be installed; what is installed says the rest."""
    done = run(wheel.parent, installed(TAKES), wheel.name, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"would replace /opt/meshdns by {wheel}\nmeshdns vm onboard --dry-run\nopt: meshdns\n"


@pytest.mark.parametrize(
    ("before", "options", "code", "says", "left"),
    [
        ("", (), 0, "nothing to do\n", ""),
        (installed(TAKES) + MANIFEST, (), 0, "meshdns vm offboard\nremoved /opt/meshdns\n", ""),
        (installed(TAKES) + MANIFEST, ("--dry-run",), 0, "meshdns vm offboard --dry-run\n", "meshdns"),
        (installed(BROKEN), (), 0, "removed /opt/meshdns\n", ""),
        (installed(BROKEN) + MANIFEST, (), 3, "", "meshdns"),
        (MANIFEST, (), 3, "", ""),
    ],
)
def test_offboarding(tmp_path: Path, before: str, options: tuple[str, ...], code: int, says: str, left: str) -> None:
    """The environment goes last, and never before a machine that is onboarded has been taken back by it."""
    done = run(tmp_path, before, "--offboard", *options)
    assert (done.returncode, done.stdout) == (code, f"{says}opt: {left}\n")
    assert ("/opt/meshdns/bin/meshdns does not run: run this script" in done.stderr) is (code == 3)
