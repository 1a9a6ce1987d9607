"""A pod's volumes as kubelet writes them, each a directory of the node."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_updates = itertools.count(1)
EMPTY_DIR_MODE: Final = 0o777
SET_GROUP_ID: Final = 0o2000


class ProjectedFiles:
    """A ConfigMap or the downward API: files that change all at once (kubelet's AtomicWriter).

    What a container sees are links to `..data/NAME`, and `..data` is a link to a directory with a time stamp. An update
    writes a new directory, puts a new `..data` over the old one by rename, and removes what is no longer linked.
    """

    def __init__(self, path: Path, group: int | None) -> None:
        self.path = path
        self._group = group
        path.mkdir()
        path.chmod(0o777)

    def write(self, files: Mapping[str, str], mode: int = 0o644) -> None:
        """Make `files` the content of the volume."""
        data = self.path / "..data"
        old = self.path / data.readlink() if data.is_symlink() else None
        new = self.path / f"..2026_01_01_00_00_00.{next(_updates):09}"
        new.mkdir()
        new.chmod(0o755)
        for name, text in files.items():
            (new / name).write_text(text)
            (new / name).chmod(mode)
        if self._group is not None:
            for path in (self.path, new, *new.iterdir()):
                os.chown(path, -1, self._group)
        (self.path / "..data_tmp").symlink_to(new.name)
        (self.path / "..data_tmp").rename(data)
        for name in files:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        for shown in self.path.iterdir():
            if not shown.name.startswith("..") and shown.name not in files:
                shown.unlink()
        if old is not None:
            shutil.rmtree(old)


def empty_dir(path: Path, group: int | None) -> Path:
    """Make an emptyDir: everybody's, and with fsGroup the group's for whatever is made in there."""
    path.mkdir()
    path.chmod(EMPTY_DIR_MODE)
    if group is not None:
        os.chown(path, -1, group)
        path.chmod(EMPTY_DIR_MODE | SET_GROUP_ID)
    return path
