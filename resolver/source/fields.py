"""Typed access to a document's fields: each gives the value, or notes a problem and gives the neutral one.

An absent field and a null are the same, as they are to the API server. Which fields an object has must not be put here.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Final

from meshdns.resolver.source import rules
from meshdns.resolver.source.problem import Path, Report
from meshdns.resolver.source.tree import Fields, Items, Quoted, Value

_TRUE: Final = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE: Final = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_MAX_DIGITS: Final = 18
"""Any longer number is out of every field's range, and a text of digits costs more than linear time to read."""

EMPTY: Final = Fields()
EMPTY.lines = []


def kind_of(value: Value) -> str:
    """Return what `value` is, in words for a message."""
    if isinstance(value, Fields):
        return "a mapping"
    if isinstance(value, Items):
        return "a list"
    return "nothing" if value is None else f"{str(value)[:64]!r}"


def mapping(fields: Fields, key: str, at: Path, report: Report) -> Fields:
    """Return the mapping at `key`, empty when absent."""
    value = fields.get(key)
    if isinstance(value, Fields):
        return value
    if value is not None:
        report.add(rules.WRONG_TYPE, (*at, key), f"must be a mapping, not {kind_of(value)}")
    return EMPTY


def items(fields: Fields, key: str, at: Path, report: Report) -> list[Value]:
    """Return the list at `key`, empty when absent."""
    value = fields.get(key)
    if isinstance(value, Items):
        return value
    if value is not None:
        report.add(rules.WRONG_TYPE, (*at, key), f"must be a list, not {kind_of(value)}")
    return []


def texts(fields: Fields, key: str, at: Path, report: Report) -> list[str]:
    """Return the list of strings at `key`, empty when absent; items of other types are left out."""
    found = []
    for index, value in enumerate(items(fields, key, at, report)):
        if isinstance(value, str):
            found.append(str(value))
        else:
            report.add(rules.WRONG_TYPE, (*at, key, index), f"must be a string, not {kind_of(value)}")
    return found


def text(fields: Fields, key: str, at: Path, report: Report) -> str:
    """Return the string at `key`, empty when absent. A plain number or boolean is the text it was written as."""
    value = fields.get(key)
    if isinstance(value, str):
        return str(value)
    if value is not None:
        report.add(rules.WRONG_TYPE, (*at, key), f"must be a string, not {kind_of(value)}")
    return ""


def text_map(fields: Fields, key: str, at: Path, report: Report) -> dict[str, str]:
    """Return the mapping of strings at `key`, empty when absent; a null value is the empty string."""
    found = {}
    for name, value in mapping(fields, key, at, report).items():
        if value is None or isinstance(value, str):
            found[str(name)] = str(value or "")
        else:
            report.add(rules.WRONG_TYPE, (*at, key, name), f"must be a string, not {kind_of(value)}")
    return found


def integer(fields: Fields, key: str, at: Path, report: Report) -> int | None:
    """Return the whole number at `key`, None when absent."""
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, str) and not isinstance(value, Quoted):
        digits = value[1:] if value[:1] in {"-", "+"} else value
        if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS and (digits[0] != "0" or digits == "0"):
            return int(value)
    quoted = "the string " if isinstance(value, Quoted) else ""
    report.add(rules.WRONG_TYPE, (*at, key), f"must be a whole number, not {quoted}{kind_of(value)}")
    return None


def boolean(fields: Fields, key: str, at: Path, report: Report, *, default: bool) -> bool:
    """Return the boolean at `key`."""
    value = fields.get(key)
    if value is None:
        return default
    if isinstance(value, str) and not isinstance(value, Quoted):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
    report.add(rules.WRONG_TYPE, (*at, key), f"must be true or false, not {kind_of(value)}")
    return default


def check_known(fields: Fields, known: frozenset[str], at: Path, report: Report) -> None:
    """Warn of fields that no version of the object has, with the nearest name that it has."""
    if known.issuperset(fields):
        return
    for name in fields:
        if name not in known:
            report.add(rules.UNKNOWN_FIELD, (*at, name), f"unknown field{nearest(name, known)}")


def nearest(name: str, known: Collection[str]) -> str:
    """Return `: did you mean X?` for the known name most like `name`, or nothing."""
    lowered = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name[:64].lower(), lowered, n=1)
    return f": did you mean {lowered[matches[0]]}?" if matches else ""
