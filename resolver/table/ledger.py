"""The leases on disk: a door to the file system. Who gets what is decided by `allocate` and must not be put here.

A file is never half written (rename after fsync), and what is read is not trusted: a row that cannot be is left out, a
file that cannot be is kept aside. Neither stops the resolver; both are told. The file is JSON and made to be read:

    {"format": 1, "leases": [{"host": "a.internal", "namespaces": ["default"], "v4": "240.240.0.1", "v6": "2001:2::1"}]}

A row with `freed_at` (seconds since the epoch) is an address that rests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshdns.resolver.source import syntax
from meshdns.resolver.table.pools import Pools
from meshdns.resolver.table.tenure import LEDGER, Tenure

FORMAT: Final = 1
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""A million leases fit; anything larger is not ours."""

_END_OF_TIME_S: Final = 2**53  # whole seconds in a float
_OWNER_ONLY: Final = 0o700
_READABLE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Held:
    """What the file says is held, and what there is to report about it, a line each."""

    tenures: tuple[Tenure, ...] = ()
    reports: tuple[str, ...] = ()


class Ledger:
    """The ledger in one directory. Without a directory nothing is kept, and nothing is said about that."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._written: bytes | None = None
        self._failing = False

    def read(self, pools: Pools) -> Held:
        """Return what is held; a file that cannot be understood is renamed to end in .damaged, and nothing is held."""
        if self._directory is None:
            return Held()
        path = self._directory / LEDGER
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return Held()
        except OSError as error:
            return Held(reports=(f"cannot read {path}: {error.strerror}: leases start anew",))
        try:
            rows = _rows(data)
        except ValueError as error:
            return Held(reports=(f"cannot understand {path}: {error}: {_keep_aside(path)}; leases start anew",))
        tenures = tuple({tenure.offset: tenure for row in reversed(rows) if (tenure := _tenure(row, pools))}.values())
        left_out = len(rows) - len(tenures)
        if left_out:
            return Held(
                tenures, (f"cannot use {left_out} of {len(rows)} leases in {path}: damaged, or of other pools",)
            )
        return Held(tenures)

    def write(self, tenures: Iterable[Tenure], pools: Pools) -> str | None:
        """Put `tenures` in place of what the file held; return a warning when that begins to fail, and only then."""
        if self._directory is None:
            return None
        data = _text(tenures, pools).encode()
        if data == self._written:
            return None
        try:
            _replace(self._directory, data)
        except OSError as error:
            warning = None if self._failing else f"cannot write {self._directory / LEDGER}: {error.strerror}"
            self._failing = True
            return warning and f"{warning}: leases are as stable as the manifests, and start anew with the next start"
        self._written, self._failing = data, False
        return None


def _rows(data: bytes) -> list[object]:
    """Return the rows of the file. Raises ValueError for one that is not of this format."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError("too deeply nested") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    rows = content.get("leases")
    if not isinstance(rows, list):
        raise ValueError("no list of leases")  # noqa: TRY004 - damaged content, whatever its type
    return rows


def _tenure(row: object, pools: Pools) -> Tenure | None:
    """Return what a row says, None when it cannot be or is not of these pools."""
    if not isinstance(row, dict):
        return None
    host, namespaces, freed_at = row.get("host"), row.get("namespaces"), row.get("freed_at")
    if not isinstance(host, str) or host != syntax.host_key(host) or not syntax.is_domain(host):
        return None
    if not isinstance(namespaces, list) or not all(isinstance(name, str) for name in namespaces):
        return None
    if freed_at is not None and not _is_time(freed_at):
        return None
    offset = _offset(row.get("v4"), row.get("v6"), pools)
    if offset is None:
        return None
    return Tenure(host, tuple(sorted(set(namespaces))), offset, None if freed_at is None else float(freed_at))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _END_OF_TIME_S


def _offset(v4: object, v6: object, pools: Pools) -> int | None:
    first = syntax.address(v4) if isinstance(v4, str) else None
    second = syntax.address(v6) if isinstance(v6, str) else None
    if first is None or second is None:
        return None
    offsets = pools.offsets(first)
    if not offsets or (first, second) != pools.pair(offsets.start) or not pools.may_lease(offsets.start):
        return None
    return offsets.start


def _text(tenures: Iterable[Tenure], pools: Pools) -> str:
    """Return the file's content: a row a line, so that people can compare two versions of it."""
    lines = []
    for tenure in tenures:
        v4, v6 = pools.pair(tenure.offset)
        row = {"host": tenure.host, "namespaces": tenure.namespaces, "v4": str(v4), "v6": str(v6)}
        lines.append(json.dumps(row if tenure.freed_at is None else {**row, "freed_at": tenure.freed_at}))
    body = ",\n".join(lines)
    return f'{{"format": {FORMAT}, "leases": [\n{body}\n]}}\n'


def _keep_aside(path: Path) -> str:
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except OSError as error:
        return f"cannot keep it aside: {error.strerror}"
    return f"kept as {aside.name}"


def _replace(directory: Path, data: bytes) -> None:
    """Write the file so that after a crash at any moment there is the old content or the new."""
    directory.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
    fresh = directory / f"{LEDGER}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(fresh, flags, _READABLE)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(directory / LEDGER)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
