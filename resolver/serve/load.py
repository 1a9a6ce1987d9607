"""The loading child: reads, checks, leases, builds, and sends what it made to the serving process; door: processes.

Run as `python -m meshdns.resolver.serve.load` with a `Request` on standard input. Frames go to standard output: a
`Summary`, then batches of rows, then a memo that the next child is given (see `frames`).
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
from itertools import islice
from typing import Any, Final

from meshdns.resolver.serve import frames
from meshdns.resolver.serve.frames import Changes, Request, Summary
from meshdns.resolver.serve.settings import TableSettings
from meshdns.resolver.source.directory import Loaded, load
from meshdns.resolver.table.allocate import Allocation, Tenure, allocate
from meshdns.resolver.table.build import common, rows
from meshdns.resolver.table.ledger import Ledger
from meshdns.resolver.table.row import Row

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


def _answer(request: Request) -> Iterator[Any]:
    settings = request.settings
    memo: _Memo = pickle.loads(zlib.decompress(request.memo)) if request.memo else _Memo()  # noqa: S301 - our own
    loaded = load([str(path) for path in settings.manifests], settings.namespace, memo.loaded)
    allocation, reports = _lease(settings, loaded, memo)
    scope = settings.scope(request.search, request.generation)
    found = list(rows(loaded.entries, allocation.leases, scope))
    answers = {f"{row.namespace}/{row.host}": _fingerprint(row) for row in found}
    yield Summary(
        common=common(scope),
        problems=(*loaded.problems, *allocation.problems),
        reports=reports,
        changes=_changes(memo.answers or {}, answers),
        entries=len(loaded.entries),
        used=allocation.used,
        free=allocation.free,
        resting=allocation.resting,
    )
    yield from _batches(found)
    yield zlib.compress(pickle.dumps(_Memo(loaded, allocation.tenures, answers)), 1)


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


def _fingerprint(row: Row) -> int:
    """Return a number that changes when what the host answers does."""
    text = f"{row.ttl_s} {row.forward_other_types} {row.unanswered} {row.aliases} {row.srv}".encode()
    return zlib.crc32(b" ".join((row.a, row.aaaa, row.lease_a, row.lease_aaaa, row.cname, text)))


def _changes(old: Mapping[str, int], new: Mapping[str, int]) -> Changes:
    return Changes(
        added=tuple(host for host in new if host not in old),
        removed=tuple(host for host in old if host not in new),
        changed=tuple(host for host, answers in new.items() if old.get(host, answers) != answers),
    )


def _batches(found: Sequence[Row]) -> Iterator[list[Row]]:
    rest = iter(found)
    while batch := list(islice(rest, frames.ROWS_PER_FRAME)):
        yield batch


def _end_with_parent() -> None:
    """Have the kernel end this process when the serving one is gone (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
