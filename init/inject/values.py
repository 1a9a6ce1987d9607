"""What a scalar means where a document keeps it as the text that stood there (YAML) or as a value of its own (JSON)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"})
"""YAML 1.1, which is what the API's clients read: https://yaml.org/type/bool.html."""


def text(value: Any) -> str | None:  # noqa: ANN401 - whatever stands there
    """Return a scalar as YAML writes it, None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None


def absent(value: Any) -> bool:  # noqa: ANN401
    """Return whether a field says nothing: it is not there, or null."""
    return value is None or (isinstance(value, str) and value in _NULLS)


def true(value: Any) -> bool:  # noqa: ANN401
    """Return whether a field says true."""
    return text(value) in _TRUE


def same(wanted: Any, found: Any) -> bool:  # noqa: ANN401
    """Return whether `found`, from a document, says the same as `wanted`, of plain values; key order is no difference.

    Only as much of `found` is looked at as `wanted` has, however large its aliases would make it.
    """
    if isinstance(wanted, Mapping):
        return (
            isinstance(found, Mapping)
            and wanted.keys() == found.keys()
            and all(same(value, found[key]) for key, value in wanted.items())
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and all(map(same, wanted, found))
    return text(wanted) == text(found)
