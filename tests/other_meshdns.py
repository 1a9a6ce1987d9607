"""Another version of meshdns: this tree with some of its text changed, run as programs of its own beside it.

newer = other_meshdns(tmp_path, "9.9.9", *OTHER_RULES)
newer.capture(pod, "install")
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from namespaces import Namespace

from meshdns.init.version import VERSION

TREE = Path(__file__).parent.parent
Edit = tuple[str, str, str]
"""A file, a text that stands in it once, and what stands there in the other version."""

OTHER_RULES: tuple[Edit, ...] = (("capture/policy/plan.py", 'f"beat-opens-', 'f"beat-begins-'),)
"""Plans a rule under another id."""
OTHER_OPTIONS: tuple[Edit, ...] = (
    ("capture/policy/spec.py", "    drop_invalid: bool", "    more: bool = False\n    drop_invalid: bool"),
    ("capture/policy/settings.py", '    "drop_invalid": ', '    "more": _of(bool),\n    "drop_invalid": '),
)
"""Records an option that this version does not have."""


@dataclass(frozen=True, slots=True)
class OtherMeshdns:
    """A version of meshdns: the modules that differ in it stand in `folder`, and are found there first."""

    folder: Path
    version: str

    def capture(self, there: Namespace, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `meshdns capture` command of that version in there, as root."""
        command = (sys.executable, "-m", "meshdns.init.cli", "capture", *arguments)
        return there.run(*command, check=check, environment={**os.environ, "PYTHONPATH": str(self.folder)})


def other_meshdns(folder: Path, version: str, *edits: Edit) -> OtherMeshdns:
    """Return the version of that name; its packages are portions of ours (PEP 420), so unchanged modules are ours."""
    for name, old, new in (*edits, ("init/version.py", f'"{VERSION}"', f'"{version}"')):
        changed = folder / "meshdns" / name
        changed.parent.mkdir(parents=True, exist_ok=True)
        text = (changed if changed.exists() else TREE / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name}: {old!r} stands there {text.count(old)} times"
        changed.write_text(text.replace(old, new), encoding="utf-8")
    return OtherMeshdns(folder, version)
