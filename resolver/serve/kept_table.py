"""The last table, kept so that a start finds it ready: the rows, and everything that they follow from as one digest.

The serving process takes it over itself, without a child and without reading a manifest, if nothing has changed. Five
lines and more of JSON: the digest, the files, what each host answered, the summary, then rows by the hundreds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from meshdns.resolver.serve.frames import Changes, Summary
from meshdns.resolver.serve.settings import TableSettings
from meshdns.resolver.serve.shelf import Shelf
from meshdns.resolver.source.columns import read, written
from meshdns.resolver.source.listing import Missing, content, digest, listed
from meshdns.resolver.table.ledger import Ledger
from meshdns.resolver.table.row import Common, Row

NAME: Final = "table"
FORMAT: Final = 1

Places = tuple[tuple[str, str, bytes], ...]
"""The files by root, path and digest, in order."""

_ANSWERS: Final = tuple[str, int]
_PLACES: Final = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class KeptTable:
    """A table as it lies on the shelf, still as text but for its head; ValueError when it turns out to be damaged."""

    made_from: str
    places: Places
    _lines: list[bytes]

    def answers(self) -> dict[str, int]:
        """Return what each host answered, as numbers to compare."""
        return dict(read(_ANSWERS, _parsed(self._lines[2])))

    def summary(self, common: Common) -> Summary:
        """Return what the load came to, as that of a table of these common parts and without changes."""
        (found,) = read(Summary, _parsed(self._lines[3]))
        return replace(found, common=common, changes=Changes())

    def batches(self) -> Iterator[list[Row]]:
        """Yield the rows, as many at a time as may be taken over in one turn of the loop."""
        for line in self._lines[4:]:
            batch = read(Row, _parsed(line))
            _check(batch)
            yield batch


def kept_table(shelf: Shelf) -> KeptTable | None:
    """Return the table on the shelf, whatever it was made from."""
    data = shelf.get(NAME)
    if data is None:
        return None
    lines = data.split(b"\n")
    try:
        (made_from,) = read(str, _parsed(lines[0]))
        places = tuple(read(_PLACES, _parsed(lines[1])))
    except (ValueError, IndexError):
        return None
    return KeptTable(made_from, places, lines)


def keep_table(
    shelf: Shelf,
    made_from: str,
    places: Places,
    answers: Mapping[str, int],
    summary: Summary,
    batches: Iterable[Sequence[Row]],
) -> None:
    """Put a table on the shelf."""
    columns = [
        written(str, (made_from,)),
        written(_PLACES, places),
        written(_ANSWERS, answers.items()),
        written(Summary, (summary,)),
        *(written(Row, batch) for batch in batches),
    ]
    lines = [json.dumps(column, separators=(",", ":")).encode() for column in columns]
    shelf.put(NAME, b"\n".join(lines))


def made_from(settings: TableSettings, search: tuple[str, ...], places: Places) -> str | None:
    """Return the digest of everything that a table follows from; None without a ledger that could be read."""
    ledger = Ledger(settings.state).digest()
    if ledger is None:
        return None
    return hashlib.sha256(repr((FORMAT, settings, search, places, ledger)).encode(errors="surrogateescape")).hexdigest()


def places_now(settings: TableSettings) -> Places | None:
    """Return the files of the manifests as they are; None if one of them cannot be read."""
    found = []
    for file in listed([str(path) for path in settings.manifests]):
        if isinstance(file, Missing):
            return None
        try:
            data = content(file.path)
        except OSError:
            return None
        if data is None:
            return None
        found.append((file.root, file.path, digest(data)))
    return tuple(found)


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("too deeply nested") from error


_A_BYTES, _AAAA_BYTES = 16, 28  # a record whose owner is a pointer


def _check(batch: Iterable[Row]) -> None:
    """Raise ValueError for rows that no build makes: answering takes their bytes as they are."""
    for row in batch:
        if (
            (len(row.a) | len(row.lease_a)) % _A_BYTES
            or len(row.aaaa) % _AAAA_BYTES
            or len(row.lease_aaaa) % _AAAA_BYTES
        ):
            raise ValueError(f"records of {row.host} that are none")
        for key in (row.key, row.cname or b"\0", *row.aliases) if row.wildcard or row.cname or row.aliases else ():
            _check_key(key)


def _check_key(key: bytes) -> None:
    at = 0
    while key[at : at + 1] not in {b"\0", b""}:
        at += key[at] + 1
    if at != len(key) - 1:
        raise ValueError("a name that is none")
