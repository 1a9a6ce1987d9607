"""Which meshdns this is, where reading it costs nothing: asking the installed package's metadata takes 40 ms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = "0.1.0"
"""By https://semver.org; pyproject.toml takes it from here."""

_BUILT: Final = "commit"
"""Beside this file in a wheel, written when it is built (setup.py); a checkout has none."""
_SHA: Final = r"[0-9a-f]{40}([0-9a-f]{24})?"


def commit() -> str | None:
    """Return the first 12 digits of the commit that this code was built from, or that its checkout is at.

    None where nobody knows: built outside a checkout, without MESHDNS_REVISION.
    """
    from pathlib import Path  # noqa: PLC0415 - 5 ms, and every command imports this module

    built = Path(__file__).with_name(_BUILT)
    if built.is_file():
        return built.read_text(encoding="ascii")[:12]
    found = head(Path(__file__).resolve().parents[1] / ".git")
    return found and found[:12]


def head(git: Path) -> str | None:
    """Return the commit that HEAD of a repository names (gitrepository-layout(5)); None where that cannot be read."""
    try:
        said = (git / "HEAD").read_text(encoding="ascii").strip()
        if said.startswith("ref: "):
            said = _resolve(git, said.removeprefix("ref: "))
    except (OSError, UnicodeDecodeError):
        return None
    return said if re.fullmatch(_SHA, said) else None


def _resolve(git: Path, ref: str) -> str:
    loose = git / ref
    if loose.is_file():
        return loose.read_text(encoding="ascii").strip()
    for line in (git / "packed-refs").read_text(encoding="ascii").splitlines():
        commit, _, name = line.partition(" ")
        if name == ref:
            return commit
    return ""
