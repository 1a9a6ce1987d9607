"""What an installation says of itself in the kernel: version, time, fingerprint and configuration.

Kept as base64 in comments, because nft knows no escape for a quote. Read back from a place where anybody with the
privilege may write: whatever is not a record is no record.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable
from typing import Any

from meshdns.capture.errors import SpecError
from meshdns.capture.policy.settings import from_settings, to_settings
from meshdns.capture.policy.spec import CaptureSpec, Family
from meshdns.capture.values import dataclass

MAX_RECORD_BYTES = 1024 * 1024
"""Far above any configuration; keeps a foreign chain of comments from being decoded at any price."""


@dataclass(frozen=True, slots=True)
class Record:
    """Who installed what and when; `installed_at` in seconds since 1970 (UTC), None where nobody knows."""

    version: str
    installed_at: int | None
    backend: str
    fingerprint: str
    spec: CaptureSpec
    open_before: frozenset[Family] = frozenset()
    """The families whose switch was open when it was installed: what the kernel counts of openings is one short."""


def to_comments(record: Record, length: int) -> tuple[str, ...]:
    """Return the record in pieces of at most `length` characters, none of them special in any dialect."""
    open_before = record.open_before
    document: dict[str, Any] = {
        "version": record.version,
        "installed_at": record.installed_at,
        "backend": record.backend,
        "fingerprint": record.fingerprint,
        "spec": to_settings(record.spec),
        **({"open_before": [family.value for family in Family if family in open_before]} if open_before else {}),
    }
    text = binascii.b2a_base64(json.dumps(document, separators=(",", ":")).encode(), newline=False).decode()
    return tuple(text[start : start + length] for start in range(0, len(text), length))


def from_comments(comments: Iterable[str]) -> Record | None:
    """Return the record that the comments hold in order, None where they hold none that this version can read."""
    document = _document(comments)
    try:
        installed_at = document["installed_at"]
        return Record(
            version=str(document["version"]),
            installed_at=None if installed_at is None else int(installed_at),
            backend=str(document["backend"]),
            fingerprint=str(document["fingerprint"]),
            spec=from_settings(document["spec"]),
            open_before=frozenset(map(Family, document.get("open_before", ()))),
        )
    except (ValueError, KeyError, TypeError, OverflowError, SpecError):
        return None


def recorded_version(comments: Iterable[str]) -> str | None:
    """Return the version that the comments name, also where only that version can read the rest of its record."""
    document = _document(comments)
    version = document.get("version") if isinstance(document, dict) else None
    return version if isinstance(version, str) else None


def _document(comments: Iterable[str]) -> Any:  # noqa: ANN401 - whatever JSON somebody put there
    text = "".join(comments)
    if len(text) > MAX_RECORD_BYTES:
        return None
    try:
        return json.loads(binascii.a2b_base64(text, strict_mode=True))
    except (ValueError, RecursionError):  # binascii's error is a ValueError too
        return None
