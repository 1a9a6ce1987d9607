"""The version, where reading it costs nothing: asking the installed package's metadata takes 40 ms."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
"""By https://semver.org; pyproject.toml takes it from here."""
