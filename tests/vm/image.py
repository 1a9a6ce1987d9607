"""The file systems that the tests boot, a bare one and one that has meshdns installed; running this file makes them.

`scripts/vm-root` has made the Debian. Here its network is configured, the locked dependencies are fetched, a wheel is
built from the tree and installed as `init/onboard-vm.sh` would.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from resolving import ADDRESS_AND_AUTO
from vm.machine import ALONE, NETWORK

TREE: Final = Path(__file__).parents[2]
DEBIAN: Final = TREE / ".vm" / "root"
WHEELS: Final = TREE / ".vm" / "wheels"
IMAGES: Final = TREE / ".vm" / "images"
RULE, OTHER_RULE = "zone-answer", "zone-reply"
PYTHON: Final = "3.11"
"""Debian 12's."""
BUILT_FROM: Final = (
    "capture",
    "resolver",
    "relay",
    "init",
    "src",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
)
INSTALLED_AT: Final = "/opt/meshdns"
QUIET: Final = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
)
"""What would change files by itself while a test compares them."""


def make(directory: Path) -> None:
    """Make `bare`, `installed` and a wheel in `wheels` under `directory`, in place of what is there."""
    shutil.rmtree(directory, ignore_errors=True)
    _download()
    wheels = directory / "wheels"
    shutil.copytree(WHEELS, wheels)
    build_wheel(wheels)
    _copy(DEBIAN, directory / "bare")
    _configure(directory / "bare")
    _copy(directory / "bare", directory / "installed")
    _install(directory / "installed", wheels)


def _download() -> None:
    """Have the wheels of the locked dependencies in WHEELS, for the Python of the machines."""
    lock, had = TREE / "requirements.lock", WHEELS / "requirements.lock"
    if had.exists() and had.read_bytes() == lock.read_bytes():
        return
    shutil.rmtree(WHEELS, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    subprocess.run([*pip, f"--python-version={PYTHON}", "-d", WHEELS, "-r", lock], check=True)
    # What a checkout is built with.
    built_with = f"setuptools=={importlib.metadata.version('setuptools')}"
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", WHEELS, built_with], check=True)
    shutil.copy(lock, had)


def _copy(root: Path, target: Path) -> None:
    subprocess.run(["cp", "--archive", "--reflink=auto", root, target], check=True)


@contextlib.contextmanager
def writable(root: Path, directory: Path) -> Iterator[Path]:
    """Lay an empty file system over `root`, below `directory`, that takes what is written; both are gone at the end."""
    upper, work, target = (directory / name for name in ("upper", "work", "root"))
    for each in (upper, work, target):
        each.mkdir()
    layers = f"lowerdir={root},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", target], check=True)
        for each in (upper, work):
            shutil.rmtree(each)


def build_wheel(target: Path, version: str | None = None) -> Path:
    """Build a wheel from the tree into `target`, as of another version, with another rule, if one is given."""
    tree = target / "tree"
    copy_tree(tree)
    if version:
        _make_newer(tree, version)
    before = set(target.glob("meshdns-*.whl"))
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", target, tree], check=True, capture_output=True)
    shutil.rmtree(tree)
    (wheel,) = set(target.glob("meshdns-*.whl")) - before
    return wheel


def copy_tree(target: Path) -> None:
    """Copy what a wheel is built from, as it stands in the tree."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard", "--", *BUILT_FROM],
        cwd=TREE, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        if os.path.lexists(TREE / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, target / name, follow_symlinks=False)


def _make_newer(tree: Path, version: str) -> None:
    """Make it another version, one of whose rules has another name."""
    _replace(tree / "init" / "version.py", r"(?m)^VERSION: Final = .*$", f'VERSION: Final = "{version}"')
    _replace(tree / "capture" / "policy" / "plan.py", RULE, OTHER_RULE)


def _replace(file: Path, pattern: str, text: str) -> None:
    changed, count = re.subn(pattern, text, file.read_text(encoding="utf-8"))
    assert count, f"{file} holds no {pattern}"
    file.write_text(changed, encoding="utf-8")


def _configure(root: Path) -> None:
    (root / "etc/systemd/network/10-host0.network").write_text(NETWORK)
    (root / "etc/hostname").write_text("vm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 vm\n::1 localhost\n")
    nsswitch = root / "etc/nsswitch.conf"
    # Libc asks port 53, as where libnss-resolve is not installed.
    asked = re.sub(r"(?m)^hosts:.*$", "hosts: files dns", nsswitch.read_text(encoding="utf-8"))
    nsswitch.write_text(asked, encoding="utf-8")
    for mounted in ("wheels", "tree"):
        (root / mounted).mkdir()
    entries = root / "srv" / "entries"
    entries.mkdir()
    (entries / "entries.yaml").write_text(ADDRESS_AND_AUTO)
    offline = ["systemctl", f"--root={root}", "--quiet"]
    subprocess.run([*offline, "enable", "systemd-networkd", "systemd-resolved"], check=True, capture_output=True)
    subprocess.run([*offline, "disable", "firewalld"], check=True, capture_output=True)
    subprocess.run([*offline, "mask", *QUIET], check=True, capture_output=True)


def _install(root: Path, wheels: Path) -> None:
    script = (
        f"python3 -m venv {INSTALLED_AT} && {INSTALLED_AT}/bin/pip -q install --no-index --find-links /wheels meshdns"
    )
    nspawn = ["systemd-nspawn", "--quiet", *ALONE, f"--directory={root}", f"--bind-ro={wheels}:/wheels"]
    subprocess.run([*nspawn, "sh", "-ec", script], check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    make(IMAGES)
