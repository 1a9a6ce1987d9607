"""Says when the mounted manifests may have changed: a door to inotify(7). What changed is for `directory` to find out.

Directories are watched, never files: a ConfigMap changes by renaming `..data`, and a watch on a file dies with the
first change. A slow look at names, sizes and times is the net below: for file systems that send no events, and for
links that were pointed elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Final

from meshdns.resolver.source.listing import is_directory, is_manifest, manifests

DEBOUNCE_S: Final = 0.1
"""One change makes several events; this long after the last of them it is told."""
MAX_DELAY_S: Final = 0.5
"""Events without end do not put it off for longer than this."""
POLL_S: Final = 5.0
IMPATIENT_POLL_S: Final = 0.5
"""While a path is gone, or where there is no inotify at all: a change is to be seen within a second."""
_FILES_PER_TURN: Final = 100
"""Looking at a file takes 2-5 µs; the loop has packets to answer in between."""

# /usr/include/x86_64-linux-gnu/sys/inotify.h, the same on every architecture but alpha's and mips's flags of open.
_IN_ATTRIB: Final = 0x4
_IN_CLOSE_WRITE: Final = 0x8
_IN_MOVED_FROM: Final = 0x40
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800
_IN_UNMOUNT: Final = 0x2000
_IN_Q_OVERFLOW: Final = 0x4000
_IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x1000000
_LOST: Final = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_IGNORED
_MASK: Final = (
    _IN_ATTRIB | _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE
    | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
)  # fmt: skip
_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 64 * 1024

Fingerprint = list[tuple[str, int, int, int]]


class Watcher:
    """Calls `changed` from the running loop, a moment after something in `paths` changed.

    `warning` says why inotify does not work, where it does not; changes are then found by looking every half second.
    """

    def __init__(self, paths: Sequence[str], changed: Callable[[], None], *, poll_s: float = POLL_S) -> None:
        self.warning: str | None = None
        self._paths = [Path(path) for path in paths]
        self._changed = changed
        self._poll_s = poll_s
        self._inotify: _Inotify | None = None
        self._watched: dict[int, set[Path]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._latest = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._seen: Fingerprint = []
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Begin to watch, in the running loop."""
        self._loop = asyncio.get_running_loop()
        try:
            self._inotify = _Inotify()
        except OSError as error:
            self.warning = f"cannot watch manifests: {error.strerror}: looking every {IMPATIENT_POLL_S} s instead"
        else:
            self._loop.add_reader(self._inotify.descriptor, self._read)
            self._watch_missing()
        self._spawn(self._poll())

    def close(self) -> None:
        """Stop watching; `changed` is not called any more."""
        for task in self._tasks:
            task.cancel()
        if self._timer:
            self._timer.cancel()
        if self._inotify:
            self._loop.remove_reader(self._inotify.descriptor)
            self._inotify.close()
            self._inotify = None

    def _read(self) -> None:
        """Take what inotify has to say."""
        if self._inotify is None:
            return
        for watch, mask, name in self._inotify.events():
            directories = self._watched.get(watch)
            if mask & _IN_Q_OVERFLOW:
                self._note()
            elif directories is not None and mask & _LOST:
                self._forget(watch)
                self._wake.set()
                self._note()
            elif directories is not None and any(self._concerns_us(directory, name) for directory in directories):
                self._note()

    def _concerns_us(self, directory: Path, name: str) -> bool:
        """Return whether `name` is a manifest, one of our paths, or a link that a ConfigMap's files lead through."""
        if name.startswith("..") or directory / name in self._paths:
            return True
        return directory in self._paths and is_manifest(name)

    def _note(self) -> None:
        """Tell when it has been quiet for a moment, and in any case soon."""
        now = self._loop.time()
        if self._timer is None:
            self._latest = now + MAX_DELAY_S
        else:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(now + DEBOUNCE_S, self._latest), self._settle)

    def _settle(self) -> None:
        self._timer = None
        self._spawn(self._tell())

    async def _tell(self) -> None:
        """Watch and look first, then tell: what changes after that is another change."""
        self._watch_missing()
        self._seen = await self._look()
        self._changed()

    def _watch_missing(self) -> bool:
        """Watch the directories that are not watched yet; return whether something is not as it should be.

        For a file, and for a path that is gone, that is the directory above.
        """
        if self._inotify is None:
            return True
        for path in self._paths:
            directory = path if is_directory(path) else path.parent
            if not any(directory in watched for watched in self._watched.values()):
                watch = self._inotify.add(directory)
                if watch is None:
                    return True
                self._watched.setdefault(watch, set()).add(directory)
        return any(_mark(path) == (str(path), 0, 0, 0) for path in self._paths)

    def _forget(self, watch: int) -> None:
        if self._watched.pop(watch, None) is not None and self._inotify is not None:
            self._inotify.remove(watch)

    async def _poll(self) -> None:
        """Look at everything now and then; watch again what was replaced, moved or away."""
        self._seen = await self._look()
        while True:
            self._wake.clear()
            impatient = self._watch_missing()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(IMPATIENT_POLL_S, self._poll_s) if impatient else self._poll_s):
                    await self._wake.wait()
            before, found = self._seen, await self._look()
            if self._seen is before and found != before:
                self._seen = found
                for watch in list(self._watched):  # a link may lead to another directory now
                    self._forget(watch)
                self._note()

    async def _look(self) -> Fingerprint:
        """Return name, size, time and number of every file, a few in each turn of the loop."""
        found: Fingerprint = []
        for root in self._paths:
            try:
                files = manifests(root)
                found.append((str(root), 0, 0, root.stat().st_ino))
            except OSError:
                files = [root]
            for index, file in enumerate(files):
                if index % _FILES_PER_TURN == _FILES_PER_TURN - 1:
                    await asyncio.sleep(0)
                found.append(_mark(file))
        return found

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _mark(path: Path) -> tuple[str, int, int, int]:
    """Return what tells one state of a file from the next; zeros when it is gone."""
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_size, found.st_mtime_ns, found.st_ino


class _Inotify:
    """The kernel's interface, as inotify(7) describes it. Raises OSError where there is none, or no room for one."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def add(self, directory: Path) -> int | None:
        """Watch a directory; return the watch's number, or None where that is not possible now."""
        watch: int = self._libc.inotify_add_watch(self.descriptor, os.fsencode(directory), _MASK)
        return watch if watch >= 0 else None

    def remove(self, watch: int) -> None:
        """End a watch; one that has ended already is none."""
        self._libc.inotify_rm_watch(self.descriptor, watch)

    def events(self) -> Iterator[tuple[int, int, str]]:
        """Yield the events that wait, as (watch, mask, name)."""
        try:
            data = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _cookie, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size
            yield watch, mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)
