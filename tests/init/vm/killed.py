"""Onboard a directory again and again, each time killed a little later, and finish or take back what is left.

A program, for it forks: `killed.py DIRECTORY`. It prints in how many places a run was killed; what is wrong ends it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from meshdns.init.vm import systemd, walk
from meshdns.init.vm.manifest import Manifest
from meshdns.init.vm.place import Directory, File, UnitFile, UnitLink
from meshdns.init.vm.step import Step

CHANGES = frozenset(
    {"open", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "shutil.rmtree"}
)
"""Events of Python's audit hooks (docs.python.org/3/library/audit_events.html) before each change of a file system."""
OLD_NS = 1_500_000_000_000_000_000


def machine(root: Path) -> Path:
    """Make what is there before: a settings file of somebody's, and a masked unit."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "etc/system").mkdir(parents=True)
    settings = root / "etc/settings.yaml"
    settings.write_text("somebody's\n")
    settings.chmod(0o600)
    os.utime(settings, ns=(OLD_NS, OLD_NS))
    (root / "etc/system/masked.service").symlink_to("/dev/null")
    return root


def steps(root: Path, version: str) -> tuple[Step, ...]:
    """Return the kinds of steps that change files, over nothing and over something."""
    return (
        Directory(str(root / "etc/ours/entries")),
        Directory(str(root / "state"), whole=True),
        File(str(root / "etc/ours/settings.yaml"), f"version: {version}\n".encode()),
        File(str(root / "etc/settings.yaml"), f"ours: {version}\n".encode()),
        UnitFile(str(root / "etc/system/masked.service"), b"[Unit]\n"),
        UnitLink(str(root / "etc/system/wanted.service"), "masked.service"),
    )


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Return all that is below `root`: mode, owner, content or target, and when a file was written."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        written = status.st_mtime_ns if path.is_file() else None
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, content, written)
    return found


def onboard(root: Path, version: str) -> None:
    """Onboard the machine below `root`."""
    walk.onboard(steps(root, version), Manifest(root / "etc/ours"), lambda _: None)


def killed_before(change: int, root: Path, version: str) -> bool:
    """Onboard in a child that is killed before its `change`th change; returns whether it came so far."""
    child = os.fork()
    if child == 0:
        left = change

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in CHANGES and str(root) in str(arguments):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        onboard(root, version)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def finished(root: Path, versions: tuple[str, ...]) -> set[str]:
    """Return what is there after an undisturbed onboarding to each version in turn."""
    machine(root)
    for version in versions:
        onboard(root, version)
    return set(snapshot(root))


def main(root: Path) -> None:
    """Kill a first onboarding and a later one to another version, everywhere; both ways must be open from there."""
    vars(systemd)["BOOTED"] = root / "no systemd"  # nobody is told of these units
    for versions in (("1",), ("1", "2")):
        whole = finished(root, versions)
        places = 0
        going = True
        while going:
            for finish in (True, False):
                before = snapshot(machine(root))
                for version in versions[:-1]:
                    onboard(root, version)
                going = killed_before(places, root, versions[-1])
                if finish:
                    onboard(root, versions[-1])
                    assert set(snapshot(root)) == whole, (versions, places)
                    assert (root / "etc/settings.yaml").read_text() == f"ours: {versions[-1]}\n", (versions, places)
                walk.offboard(Manifest(root / "etc/ours"), lambda _: None)
                assert snapshot(root) == before, (versions, places, finish)
            places += 1
        sys.stdout.write(f"{places}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
