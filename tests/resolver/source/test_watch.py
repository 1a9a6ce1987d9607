"""Watching: what is told, what is not, and that a path which was away is found again."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from meshdns.resolver.source.watch import Watcher

Step = Callable[[Path], object]


def watched(root: Path, paths: list[Path], script: Callable[[Watched], Awaitable[None]], poll_s: float = 60) -> None:
    """Run `script` while `paths` are watched; `poll_s` is long enough that only inotify can tell in time."""

    async def run() -> None:
        told = asyncio.Queue[None]()
        watcher = Watcher([str(path) for path in paths], lambda: told.put_nowait(None), poll_s=poll_s)
        watcher.start()
        try:
            await asyncio.sleep(0.05)
            await script(Watched(watcher, told, root))
        finally:
            watcher.close()

    asyncio.run(run())


class Watched:
    """What a script can ask."""

    def __init__(self, watcher: Watcher, told: asyncio.Queue[None], root: Path) -> None:
        self.watcher = watcher
        self.root = root
        self._told = told

    async def told(self, within_s: float = 5) -> None:
        """Wait until a change is told."""
        async with asyncio.timeout(within_s):
            await self._told.get()

    async def silence(self) -> None:
        """Assert that nothing more is told."""
        await asyncio.sleep(0.4)
        assert self._told.empty()


def new_version(mount: Path) -> None:
    """Swap a ConfigMap's `..data` the way kubelet does."""
    version = mount / f"..{len(list(mount.iterdir()))}"
    version.mkdir()
    (version / "a.yaml").write_text("x: 1\n")
    (mount / "..data_tmp").symlink_to(version.name)
    (mount / "..data_tmp").rename(mount / "..data")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("write", lambda root: (root / "a.yaml").write_text("x: 2\n")),
        ("add", lambda root: (root / "b.yaml").write_text("x: 2\n")),
        ("remove", lambda root: (root / "a.yaml").unlink()),
        ("rename away", lambda root: (root / "a.yaml").rename(root / "a.txt")),
        ("rename in", lambda root: (root / "note.txt").rename(root / "b.json")),
        ("link", lambda root: (root / "c.yml").symlink_to("a.yaml")),
        ("permissions", lambda root: (root / "a.yaml").chmod(0o600)),
        ("config map", new_version),
    ],
)
def test_changes_are_told_once(tmp_path: Path, name: str, change: Step) -> None:
    """One change, whatever its sort, is told once and without waiting for the poll."""
    (tmp_path / "a.yaml").write_text("x: 1\n")
    (tmp_path / "note.txt").write_text("x: 1\n")

    async def script(watch: Watched) -> None:
        change(watch.root)
        await watch.told()
        await watch.silence()

    watched(tmp_path, [tmp_path], script)


def test_every_swap_of_a_config_map_is_told(tmp_path: Path) -> None:
    """The third swap is seen like the first."""

    async def script(watch: Watched) -> None:
        for _ in range(3):
            new_version(watch.root)
            await watch.told()
        await watch.silence()

    watched(tmp_path, [tmp_path], script)


def test_a_burst_is_told_once(tmp_path: Path) -> None:
    """Many files written together make one reload."""

    async def script(watch: Watched) -> None:
        for number in range(50):
            (watch.root / f"{number}.yaml").write_text("x: 1\n")
        await watch.told()
        await watch.silence()

    watched(tmp_path, [tmp_path], script)


def test_changes_without_end_are_told_all_the_same(tmp_path: Path) -> None:
    """A file that is written all the time does not put the reload off for ever."""

    async def script(watch: Watched) -> None:
        async def scribble() -> None:
            while True:
                (watch.root / "a.yaml").write_text("x: 1\n")
                await asyncio.sleep(0.02)

        scribbler = asyncio.create_task(scribble())
        await watch.told()
        scribbler.cancel()

    watched(tmp_path, [tmp_path], script)


def test_other_files_are_not_told(tmp_path: Path) -> None:
    """An editor's own files, and a file's neighbours where only the file is given, make no reload."""
    directory, single = tmp_path / "directory", tmp_path / "single"
    directory.mkdir()
    single.mkdir()
    (single / "a.yaml").write_text("x: 1\n")

    async def script(watch: Watched) -> None:
        for name in (".a.yaml.swp", "4913", "a.yaml~"):
            (directory / name).write_text("x\n")
        (single / "b.yaml").write_text("x: 1\n")
        await watch.silence()
        (single / "a.yaml").write_text("x: 2\n")
        await watch.told()

    watched(tmp_path, [directory, single / "a.yaml"], script)


def test_a_directory_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    """Going away is told, coming back is told, and what changes then is told too."""
    directory = tmp_path / "mount"
    directory.mkdir()

    async def script(watch: Watched) -> None:
        for _ in range(2):
            directory.rename(tmp_path / "away")
            await watch.told()
            await watch.silence()
            directory.mkdir()
            (directory / "a.yaml").write_text("x: 1\n")
            await watch.told()
            await watch.silence()
            (directory / "a.yaml").write_text("x: 2\n")
            await watch.told()
            await watch.silence()
            (directory / "a.yaml").unlink()
            directory.rmdir()
            await watch.told()
            (tmp_path / "away").rename(directory)
            await watch.told()

    watched(tmp_path, [directory], script)


def test_a_path_two_levels_of_which_are_missing(tmp_path: Path) -> None:
    """Where not even the directory above exists, looking every half second finds it."""
    directory = tmp_path / "not" / "yet"

    async def script(watch: Watched) -> None:
        directory.mkdir(parents=True)
        (directory / "a.yaml").write_text("x: 1\n")
        await watch.told()

    watched(tmp_path, [directory], script)


def test_the_poll_is_a_net(tmp_path: Path) -> None:
    """A change that sends no event, such as a link far away that leads elsewhere now, is found by looking."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "a.yaml").write_text("x: 1\n")
    link = tmp_path / "far" / "link"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "one")

    async def script(watch: Watched) -> None:
        link.unlink()
        link.symlink_to(tmp_path / "two")
        await watch.told()
        await watch.silence()
        (tmp_path / "two" / "a.yaml").write_text("x: 22\n")
        await watch.told()

    watched(tmp_path, [link], script, poll_s=0.1)


def test_without_inotify(tmp_path: Path) -> None:
    """Where the kernel has no inotify instance left, that is told and looking takes its place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def script(watch: Watched) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert watch.watcher.warning == ("cannot watch manifests: Too many open files: looking every 0.5 s instead")
        (watch.root / "a.yaml").write_text("x: 1\n")
        await watch.told()

    async def run() -> None:
        told = asyncio.Queue[None]()
        watcher = Watcher([str(tmp_path)], lambda: told.put_nowait(None))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            watcher.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        try:
            await asyncio.sleep(0.05)
            await script(Watched(watcher, told, tmp_path))
        finally:
            watcher.close()

    asyncio.run(run())
