"""Loading anew without a pause: starts the loading child, takes over what it sends, hands on a table; door: processes.

At most 500 rows are taken over in one turn of the loop. A child that fails or hangs changes nothing: the old table
stays. What a load decides stands in `load`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from meshdns.resolver.serve import frames
from meshdns.resolver.serve.frames import Request, Summary
from meshdns.resolver.serve.kept_table import KeptTable, kept_table, made_from, places_now
from meshdns.resolver.serve.settings import TableSettings
from meshdns.resolver.serve.shelf import Shelf
from meshdns.resolver.table.live import Assembler, Table
from meshdns.resolver.table.scope import common

LOAD_S: Final = 120.0
"""A child that takes longer is ended. Ten thousand entries take about two seconds."""

MAX_FRAME_BYTES: Final = 256 << 20

NAMES_TOLD: Final = 20
"""How many names of a change are logged one by one."""

logger = logging.getLogger("meshdns.resolver.load")


class LoadCounters:
    """What loading did so far. `last_s` is how long the last good one took; `loaded_at` its time.monotonic().

    `resumed`: the first table was the one that the last run kept.
    """

    loads = 0
    failures = 0
    resumed = False
    last_s = 0.0
    loaded_at = 0.0
    summary: Summary | None = None


class LoadError(Exception):
    """The child did not deliver; the text says why. It never leaves this module."""


class Reloader:
    """Loads when told to, one child at a time; what is triggered meanwhile is done once more afterwards.

    `accept` gets each new table, in the loop, before its memo is kept. `tried` is set once a table is there with all
    its answers, or could not be had.
    """

    def __init__(self, settings: TableSettings, accept: Callable[[Table], None]) -> None:
        self.counters = LoadCounters()
        self.tried = asyncio.Event()
        self._settings = settings
        self._accept = accept
        self._table: Table | None = None
        self._search: tuple[str, ...] = ()
        self._generation = 0
        self._memo = b""
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._told: frozenset[str] = frozenset()

    def trigger(self, search: tuple[str, ...]) -> None:
        """Load as soon as may be, with these search suffixes."""
        self._search = search
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._load_while_told())

    async def settle(self) -> None:
        """Wait until everything that was triggered is done."""
        if self._task is not None:
            await self._task

    async def stop(self) -> None:
        """End a child that is at work."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _load_while_told(self) -> None:
        while self._again:
            self._again = False
            try:
                async with asyncio.timeout(LOAD_S):
                    await self._load()
            except (LoadError, TimeoutError, OSError, struct.error) as error:
                self.counters.failures += 1
                logger.warning("cannot load the manifests: %s: what was loaded before is served on", error or "no end")
            finally:
                self.tried.set()

    async def _load(self) -> None:
        if self._generation == 0 and await self._resume():
            return
        began = time.monotonic()
        request = Request(self._settings, self._search, self._generation + 1, self._memo)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "meshdns.resolver.serve.load"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            with _no_collection():
                summary, table = await self._converse(child, request)
                self._take_over(summary, table, began)
                await self._prepare(table)
            assert child.stdout is not None  # noqa: S101 - a pipe
            self._memo = await _frame(child.stdout)
            if await child.wait() != 0:
                logger.warning("cannot keep what was loaded for the next start: exit code %d", child.returncode)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    async def _resume(self) -> bool:
        """Begin with the table on the shelf if nothing has changed since it was made; return whether that is so."""
        began = time.monotonic()
        settings = self._settings
        kept = await _still_good(settings, self._search)
        if kept is None:
            return False
        with _no_collection():
            try:
                summary = kept.summary(common(settings.scope(self._search, 1)))
                table = await self._assemble(summary, _in_turns(kept.batches()))
            except ValueError as error:
                logger.warning("cannot use the table in %s: %s: the manifests are read", settings.state, error)
                return False
            logger.info("nothing has changed since the table in %s was built", settings.state)
            self.counters.resumed = True
            self._take_over(summary, table, began)
            await self._prepare(table)
        return True

    def _take_over(self, summary: Summary, table: Table, began: float) -> None:
        """Hand on a new table, and note and tell what came of loading it."""
        self._generation = summary.common.generation
        self.counters.summary = summary
        self.counters.loads += 1
        self.counters.last_s = time.monotonic() - began
        self.counters.loaded_at = time.monotonic()
        self._table = table
        self._tell(summary, len(table.rows))
        self._accept(table)

    async def _converse(self, child: asyncio.subprocess.Process, request: Request) -> tuple[Summary, Table]:
        assert child.stdin is not None  # noqa: S101 - both are pipes
        assert child.stdout is not None  # noqa: S101
        frames.write(child.stdin, request)
        child.stdin.close()
        summary = await _frame(child.stdout)
        return summary, await self._assemble(summary, _batches(child.stdout))

    async def _assemble(self, summary: Summary, batches: AsyncIterator[Sequence[bytes]]) -> Table:
        """Build a table in as many turns of the loop as there are batches."""
        assembler = Assembler(summary.common, self._table)
        async for batch in batches:
            assembler.add(batch)
            await asyncio.sleep(0)
        return assembler.finish()

    async def _prepare(self, table: Table) -> None:
        """Make all answers beforehand, in turns."""
        for _ in table.prepare():
            await asyncio.sleep(0)
        self.tried.set()

    def _tell(self, summary: Summary, hosts: int) -> None:
        """Log what a load came to: the problems that the last one did not have, and whose answers are others now."""
        problems = tuple(map(str, (*summary.reports, *summary.problems)))
        for text in problems:
            if text not in self._told:
                logger.warning("%s", text)
        self._told = frozenset(problems)
        _tell_changes(summary, hosts)


async def _still_good(settings: TableSettings, search: tuple[str, ...]) -> KeptTable | None:
    """Return the table on the shelf if nothing has changed since it was made."""
    if settings.state is None:
        return None
    # Files may be many, and large: two threads read them and compute digests side by side.
    shelved = asyncio.to_thread(kept_table, Shelf(settings.state))
    kept, now = await asyncio.gather(shelved, asyncio.to_thread(_source_now, settings, search))
    return kept if kept is not None and kept.made_from == now else None


def _source_now(settings: TableSettings, search: tuple[str, ...]) -> str | None:
    """Return what a table would be made from now; None where that cannot be read."""
    places = places_now(settings)
    return None if places is None else made_from(settings, search, places)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the collector away: nothing of a table is garbage, and looking through it takes longer than making it."""
    gc.disable()
    try:
        yield
        gc.freeze()  # what was just built lives long, and is not looked at again
    finally:
        gc.enable()


async def _in_turns(batches: Iterable[Sequence[bytes]]) -> AsyncIterator[Sequence[bytes]]:
    for batch in batches:
        yield batch


async def _batches(stream: asyncio.StreamReader) -> AsyncIterator[Sequence[bytes]]:
    while (frame := await _frame(stream)) != frames.END:
        yield frame


async def _frame(stream: asyncio.StreamReader) -> Any:  # noqa: ANN401 - a Summary, rows, or the memo
    try:
        (length,) = frames.LENGTH.unpack(await stream.readexactly(frames.LENGTH.size))
        if length > MAX_FRAME_BYTES:
            raise LoadError(f"a frame of {length} bytes")
        return frames.loaded(await stream.readexactly(length))
    except ValueError as error:
        raise LoadError(str(error)) from error
    except asyncio.IncompleteReadError as error:
        raise LoadError("the loading process ended before it was done: see what it wrote above") from error


def _tell_changes(summary: Summary, hosts: int) -> None:
    changes = summary.changes
    found = (_counted(hosts, "host"), _counted(summary.entries, "object"), _counted(summary.used, "lease"))
    logger.info("generation %d: %s from %s, %s", summary.common.generation, *found)
    for what, names in (("added", changes.added), ("removed", changes.removed), ("changed", changes.changed)):
        if names:
            more = f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else ""
            logger.info("%s: %s%s", what, ", ".join(names[:NAMES_TOLD]), more)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
