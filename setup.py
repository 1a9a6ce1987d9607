"""What pyproject.toml cannot say: a wheel remembers the commit it was built from. Everything else stands there."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


class BuildWithCommit(build_py):
    """Writes `meshdns/init/commit`: MESHDNS_REVISION where it is set, else the checkout's commit, else nothing."""

    def run(self) -> None:
        """Build, then add the file; an editable install reads its checkout instead."""
        super().run()
        head = runpy.run_path(str(HERE / "init" / "version.py"))["head"]
        commit = os.environ.get("MESHDNS_REVISION") or head(HERE / ".git")
        if commit and not self.editable_mode:
            (Path(self.build_lib) / "meshdns" / "init" / "commit").write_text(f"{commit}\n", encoding="ascii")


setup(cmdclass={"build_py": BuildWithCommit})
