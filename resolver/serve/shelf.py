"""A directory of things that can be made again, beside the ledger: a door to the file system.

Every file says what its bytes must add up to, and one that does not is as good as none; so nothing is synced to disk,
and no error is worth more than doing the work again. What is kept, and what it means, stands in `kept_files` and
`kept_table`. Nothing here may import YAML: the serving process starts from the shelf.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from meshdns.resolver.source.listing import content, digest

FOLDER: Final = "shelf"

_MAGIC: Final = b"meshdns shelf 1\n"
_DIGEST_BYTES: Final = 32
_OWNER_ONLY: Final = 0o700
_READABLE: Final = 0o600
_FRESH: Final = ".new"


class Shelf:
    """The shelf in a state directory; without one everything that is put there is gone at once."""

    def __init__(self, state: Path | None) -> None:
        self._folder = state / FOLDER if state else None

    def get(self, name: str) -> memoryview | None:
        """Return what was put under this name; None where there is nothing, or nothing whole."""
        if self._folder is None:
            return None
        try:
            data = content(str(self._folder / name))
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        if data is None or not data.startswith(_MAGIC):
            return None
        rest = memoryview(data)[start:]
        return rest if digest(rest) == data[len(_MAGIC) : start] else None

    def put(self, name: str, data: bytes) -> None:
        """Put `data` there in place of what there was: all of it or, where that cannot be, nothing."""
        if self._folder is None:
            return
        fresh = self._folder / f"{name}{_FRESH}"
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(fresh, flags, _READABLE), "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.writelines((_MAGIC, digest(data), data))
            fresh.replace(self._folder / name)

    def keep_only(self, names: Collection[str]) -> None:
        """Remove everything else, half-written files of a child that was killed included."""
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            for item in os.scandir(self._folder):
                if item.name not in names:
                    with contextlib.suppress(OSError):
                        os.unlink(item.path)  # noqa: PTH108 - no Path for each of thousands of files
