"""What is installed is what is in the tree: every module imports from a wheel, and nothing else is in it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

TREE = Path(__file__).parent.parent
PACKAGES = ("capture", "resolver", "relay", "init")


def test_every_module_imports_from_the_wheel(tmp_path: Path) -> None:
    """A wheel built from the tree holds each module under meshdns.*, and each can be imported from it alone."""
    # A copy, because building leaves build/ behind and modules since renamed come back from there.
    copy = tmp_path / "tree"
    files = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TREE, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        source, target = TREE / name, copy / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink()) if source.is_symlink() else target.write_bytes(source.read_bytes())
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        tmp_path,
    ]
    built_from = {**os.environ, "MESHDNS_REVISION": "0123456789abcdef" * 2}
    subprocess.run([*map(str, pip), str(copy)], check=True, capture_output=True, timeout=60, env=built_from)
    (wheel,) = tmp_path.glob("*.whl")
    expected = {f"meshdns/{path.relative_to(copy)}" for package in PACKAGES for path in (copy / package).rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.endswith(".py")} == expected
        archive.extractall(tmp_path / "site")
    modules = [name.removesuffix(".py").replace("/", ".") for name in sorted(expected)]
    code = (
        "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; "
        "import meshdns.init.version as version; print(version.__file__, version.commit())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{tmp_path}/site/meshdns/init/version.py 0123456789ab\n"
