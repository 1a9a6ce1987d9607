"""The loading child: reads, checks, leases, builds, and sends what it made to the serving process; door: processes.

Run as `python -m meshdns.resolver.serve.load` with a `Request` on standard input. Frames go to standard output: a
`Summary`, then batches of packed rows and an END, then a memo that the next child is given (see `frames`).
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import resource
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshdns.resolver.serve import frames
from meshdns.resolver.serve.frames import Changes, Request, Summary
from meshdns.resolver.serve.kept_files import KeptFiles
from meshdns.resolver.serve.kept_table import NAME, Places, keep_table, kept_table, made_from
from meshdns.resolver.serve.settings import TableSettings
from meshdns.resolver.serve.shelf import Shelf
from meshdns.resolver.source.directory import Loaded, load
from meshdns.resolver.table.allocate import Allocation, allocate
from meshdns.resolver.table.build import rows
from meshdns.resolver.table.ledger import Ledger
from meshdns.resolver.table.packed import answered_part, packed
from meshdns.resolver.table.scope import common
from meshdns.resolver.table.tenure import Tenure

MEMORY_BYTES: Final = 4 << 30
"""Address space of a child: a manifest that wants more fails alone, and the old table stays. 64 MiB of YAML want 2."""

NICENESS: Final = 5
"""Answering goes before loading where both share a processor."""

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class _Memo:
    """What one load leaves to the next: the good documents, who holds which address, and what each host answered."""

    loaded: Loaded | None = None
    held: tuple[Tenure, ...] | None = None
    answers: Mapping[str, int] | None = None


def main() -> None:
    """Answer one request. An exception's traceback is the child's last word; the serving process goes on without it."""
    _end_with_parent()
    gc.disable()  # a sixth of the load, and whatever it could free ends with this process soon
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    request: Request = frames.read(sys.stdin.buffer)
    for frame in _answer(request):
        frames.write(sys.stdout.buffer, frame)
        sys.stdout.buffer.flush()


@dataclass(frozen=True, slots=True)
class _Made:
    """What a load made of the manifests; `answers` tells whose answers are others next time."""

    loaded: Loaded
    allocation: Allocation
    summary: Summary
    rows: Sequence[bytes]
    answers: Mapping[str, int]


def _answer(request: Request) -> Iterator[Any]:
    settings = request.settings
    shelf = Shelf(settings.state)
    files = KeptFiles(shelf, settings.version, settings.namespace)
    # Without a memo the serving process began with what is on the shelf, or with nothing at all.
    memo: _Memo = pickle.loads(zlib.decompress(request.memo)) if request.memo else _shelved(shelf, files, settings)  # noqa: S301 - our own
    made = _make(request, memo, files)
    yield made.summary
    yield from _batches(made.rows)
    yield frames.END
    yield zlib.compress(pickle.dumps(_Memo(made.loaded, made.allocation.tenures, made.answers)), 1)
    if settings.state is not None:
        files.write()
        _shelve(shelf, files, request, made)


def _make(request: Request, memo: _Memo, files: KeptFiles) -> _Made:
    settings = request.settings
    loaded = load([str(path) for path in settings.manifests], settings.namespace, memo.loaded, files)
    allocation, reports = _lease(settings, loaded, memo)
    scope = settings.scope(request.search, request.generation)
    found: list[bytes] = []
    answers: dict[str, int] = {}
    for row in rows(loaded.entries, allocation.leases, scope):
        data = packed(row)
        found.append(data)
        answers[f"{row.namespace}/{row.host}"] = zlib.crc32(answered_part(data))
    summary = Summary(
        common=common(scope),
        problems=(*loaded.problems, *allocation.problems),
        reports=reports,
        changes=_changes(memo.answers or {}, answers),
        entries=len(loaded.entries),
        used=allocation.used,
        free=allocation.free,
        resting=allocation.resting,
    )
    return _Made(loaded, allocation, summary, found, answers)


def _shelve(shelf: Shelf, files: KeptFiles, request: Request, made: _Made) -> None:
    """Keep the table for the next start, if it follows from what is there to be read then; and nothing old beside it.

    It does not where something is served that the files do not say any more, or where a host waits for a lease.
    """
    places: Places = tuple((file.root, file.path, file.digest) for file in made.loaded.files)
    standing = (each.is_current for file in made.loaded.files for each in file.objects)
    source = made_from(request.settings, request.search, places)
    if source is not None and all(standing) and not made.loaded.missing and not made.allocation.problems:
        keep_table(shelf, source, places, made.answers, made.summary, made.rows)
    else:
        kept = kept_table(shelf)
        places += kept.places if kept else ()  # the last good versions of what is bad now
    shelf.keep_only({NAME, *(files.name(path, digest) for _, path, digest in places)})


def _shelved(shelf: Shelf, files: KeptFiles, settings: TableSettings) -> _Memo:
    """Return what the last load left on the shelf."""
    kept = kept_table(shelf)
    if kept is None:
        return _Memo()
    try:
        answers = kept.answers()
    except ValueError:
        answers = {}
    return _Memo(Loaded(settings.namespace, tuple(files.files(kept.places)), (), (), 0, ()), None, answers)


def _lease(settings: TableSettings, loaded: Loaded, memo: _Memo) -> tuple[Allocation, tuple[str, ...]]:
    """Lease addresses and note in the ledger who has which; the reports are about the ledger."""
    ledger = Ledger(settings.state)
    held = memo.held
    reports: tuple[str, ...] = ()
    if held is None:
        read = ledger.read(settings.pools)
        held, reports = read.tenures, read.reports
    entries = loaded.entries if settings.auto_allocate else ()
    allocation = allocate(entries, settings.pools, held, time.time(), answer_endpoints=settings.answer_endpoints)
    warning = ledger.write(allocation.tenures, settings.pools)
    return allocation, (*reports, warning) if warning else reports


def _changes(old: Mapping[str, int], new: Mapping[str, int]) -> Changes:
    return Changes(
        added=tuple(host for host in new if host not in old),
        removed=tuple(host for host in old if host not in new),
        changed=tuple(host for host, answers in new.items() if old.get(host, answers) != answers),
    )


def _batches(found: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for at in range(0, len(found), frames.ROWS_PER_FRAME):
        yield found[at : at + frames.ROWS_PER_FRAME]


def _end_with_parent() -> None:
    """Have the kernel end this process when the serving one is gone (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
