"""What an entry's annotations ask for: its own time to live, families, and what becomes of other types.

A value that cannot be understood changes nothing and is said in a note; `check` reports it with its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

_T = TypeVar("_T")

TTL: Final = "meshdns.io/ttl"
FAMILIES: Final = "meshdns.io/families"
OTHER_TYPES: Final = "meshdns.io/other-types"

TTL_MOST_S: Final = 2**31 - 1  # RFC 2181, section 8

_FAMILIES: Final = {"ipv4": frozenset({4}), "ipv6": frozenset({6}), "both": frozenset({4, 6})}
_OTHER_TYPES: Final = {"forward": True, "nodata": False}


class Policy(NamedTuple):
    """None: as for everyone. `families` are IP versions; `notes` say what was not understood."""

    ttl_s: int | None = None
    families: frozenset[int] | None = None
    forward_other_types: bool | None = None
    notes: tuple[str, ...] = ()


NO_POLICY: Final = Policy()


def policy(annotations: Mapping[str, str]) -> Policy:
    """Read the annotations of one object."""
    if not annotations:
        return NO_POLICY
    notes: list[str] = []
    ttl = annotations.get(TTL)
    ttl_s = (
        int(ttl) if ttl is not None and ttl.isascii() and ttl.isdigit() and len(ttl) <= len(str(TTL_MOST_S)) else None
    )
    if ttl_s is not None and ttl_s > TTL_MOST_S:
        ttl_s = None
    if ttl is not None and ttl_s is None:
        notes.append(f"{TTL} {ttl[:40]!r} is no number of seconds from 0 to {TTL_MOST_S}")
    return Policy(
        ttl_s,
        _chosen(annotations, FAMILIES, _FAMILIES, notes),
        _chosen(annotations, OTHER_TYPES, _OTHER_TYPES, notes),
        tuple(notes),
    )


def _chosen(annotations: Mapping[str, str], key: str, words: Mapping[str, _T], notes: list[str]) -> _T | None:
    word = annotations.get(key)
    if word is None or word in words:
        return None if word is None else words[word]
    notes.append(f"{key} {word[:40]!r} is none of {', '.join(words)}")
    return None
