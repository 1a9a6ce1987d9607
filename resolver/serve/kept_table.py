"""The last table, kept so that a start finds it ready: the rows, and everything that they follow from as one digest.

The serving process takes it over itself, without a child and without reading a manifest, if nothing has changed. Five
parts, each behind its length: what it was made from, what each host answered and what the load came to, in JSON; the
lengths of the rows, and the packed rows one after another. No part is read before it is needed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import islice
from typing import Any, Final, NamedTuple

from meshdns.resolver.serve.frames import ROWS_PER_FRAME, Changes, Summary
from meshdns.resolver.serve.settings import TableSettings
from meshdns.resolver.serve.shelf import Shelf
from meshdns.resolver.source.listing import Missing, content, digest, listed
from meshdns.resolver.source.problem import Level, Problem
from meshdns.resolver.table.packed import check
from meshdns.resolver.table.row import Common
from meshdns.resolver.table.tenure import LEDGER

NAME: Final = "table"
FORMAT: Final = 2

Places = tuple[tuple[str, str, bytes], ...]
"""The files by root, path and digest, in order."""

_LENGTH: Final = struct.Struct("!I")
_PARTS: Final = 5


class KeptTable(NamedTuple):
    """A table as it lies on the shelf; ValueError when a part of it turns out to be damaged."""

    made_from: str
    places: Places
    parts: Sequence[memoryview]

    def answers(self) -> dict[str, int]:
        """Return what each host answered, as numbers to compare."""
        found = _parsed(self.parts[1])
        if not isinstance(found, dict) or not all(isinstance(number, int) for number in found.values()):
            raise ValueError("no numbers of answers")
        return found

    def summary(self, common: Common) -> Summary:
        """Return what the load came to, as that of a table of these common parts and without changes."""
        try:
            problems, reports, counts = _parsed(self.parts[2])
            entries, used, free, resting = map(int, counts)
            found = tuple(map(_problem, problems))
        except (TypeError, OverflowError) as error:
            raise ValueError(f"no summary of a load: {error}") from error
        return Summary(common, found, tuple(map(str, reports)), Changes(), entries, used, free, resting)

    def batches(self) -> Iterator[list[bytes]]:
        """Yield the packed rows, as many at a time as may be taken over in one turn of the loop."""
        lengths, data = self.parts[3:]
        sizes = struct.unpack(f"!{len(lengths) // _LENGTH.size}I", lengths)
        if sum(sizes) != len(data):
            raise ValueError("the rows do not add up")
        rows = map(BytesIO(data).read, sizes)
        while batch := list(islice(rows, ROWS_PER_FRAME)):
            check(batch)
            yield batch


def _problem(texts: list[Any]) -> Problem:
    file, line, field, rule, level, reason, fix = texts
    return Problem(str(file), int(line), str(field), str(rule), Level(level), str(reason), str(fix))


def kept_table(shelf: Shelf) -> KeptTable | None:
    """Return the table on the shelf, whatever it was made from."""
    data = shelf.get(NAME)
    if data is None:
        return None
    parts = []
    at = 0
    try:
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size + length
            parts.append(data[at - length : at])
        if at != len(data) or len(parts) != _PARTS:
            return None
        made_from, places = _parsed(parts[0])
        return KeptTable(
            str(made_from), tuple([(str(root), str(path), bytes.fromhex(known)) for root, path, known in places]), parts
        )
    except (ValueError, TypeError, struct.error):
        return None


def keep_table(
    shelf: Shelf, made_from: str, places: Places, answers: Mapping[str, int], summary: Summary, rows: Sequence[bytes]
) -> None:
    """Put a table of packed rows on the shelf."""
    parts = (
        _json((made_from, [(root, path, known.hex()) for root, path, known in places])),
        _json(answers),
        _json(
            (
                [(one.file, one.line, one.field, one.rule, one.level, one.reason, one.fix) for one in summary.problems],
                summary.reports,
                (summary.entries, summary.used, summary.free, summary.resting),
            )
        ),
        struct.pack(f"!{len(rows)}I", *map(len, rows)),
        b"".join(rows),
    )
    shelf.put(NAME, b"".join([_LENGTH.pack(len(part)) + part for part in parts]))


def made_from(settings: TableSettings, search: tuple[str, ...], places: Places) -> str | None:
    """Return the digest of everything that a table follows from; None without a ledger that could be read."""
    if settings.state is None:
        return None
    try:
        ledger = content(str(settings.state / LEDGER))
    except OSError:
        return None
    if ledger is None:
        return None
    everything = repr((FORMAT, settings, search, places, digest(ledger)))
    return hashlib.sha256(everything.encode(errors="surrogateescape")).hexdigest()


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


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _parsed(part: memoryview) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(bytes(part))
    except RecursionError as error:
        raise ValueError("too deeply nested") from error
