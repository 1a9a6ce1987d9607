"""The machine's resolv.conf as a file that changes; door: file system. What it means stands in `query.resolvconf`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from meshdns.resolver.errors import PreflightError
from meshdns.resolver.query.resolvconf import ResolvConf, parse

MAX_BYTES: Final = 1 << 20

TOLD_AT_FAILURE: Final = 3
"""Looks in a row, a second apart, that find no file."""

logger = logging.getLogger("meshdns.resolver")


class ResolvConfFile:
    """The file's content, read at once. Nobody else need look at the file."""

    def __init__(self, path: Path, *, needed: bool = True) -> None:
        """Read the file; PreflightError when it is `needed` and cannot be, else a warning and no content."""
        self._path = path
        self._mark: tuple[int, ...] | None = None
        self._failures = 0
        try:
            self._mark = self._look()
            self.content = self._read()
        except OSError as error:
            if needed:
                raise PreflightError(
                    f"cannot read {path}: {error.strerror}: give --resolv-conf, or name servers with --upstream"
                ) from error
            logger.warning("cannot read %s: %s: no search suffix is taken from it", path, error.strerror)
            self.content = ResolvConf(())

    def has_changed(self) -> bool:
        """Read the file again if it is another one or was written; tell whether it says something else now.

        A file that is gone or cannot be read leaves things as they are. That is told once, and not where it is so for a
        moment only, while the file is replaced.
        """
        try:
            mark = self._look()
            if mark == self._mark:
                self._failures = 0
                return False
            before, self.content = self.content, self._read()
        except OSError as error:
            self._failures += 1
            if self._failures == TOLD_AT_FAILURE and self._mark is not None:
                logger.warning("cannot read %s: %s: what it said last stays in force", self._path, error.strerror)
            return False
        self._mark, self._failures = mark, 0
        return self.content != before

    def _look(self) -> tuple[int, ...]:
        found = os.stat(self._path)  # noqa: PTH116 - every second, and Path.stat costs twice as much
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> ResolvConf:
        with self._path.open("rb") as file:
            content = parse(file.read(MAX_BYTES).decode(errors="replace"))
        for warning in content.warnings:
            logger.warning("%s: %s", self._path, warning)
        return content
