"""docs/vm.md: its commands do what it says, in its order, on a machine that has nothing."""

from __future__ import annotations

import re
from typing import Final

from resolving import ADDRESS_AND_AUTO
from vm.image import TREE
from vm.machine import PATH, Machine

PAGE: Final = TREE / "docs" / "vm.md"
OFFLINE: Final = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PATH": PATH.removeprefix("/opt/meshdns/bin:")}


def _blocks(language: str) -> list[str]:
    found: list[str] = re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return found


def test_commands_of_the_page(bare: Machine) -> None:
    """Every command of the page succeeds, one after the other; those that go back stand last."""
    blocks = _blocks("sh")
    off = next(block for block in blocks if "--offboard" in block)
    before, after = blocks[: blocks.index(off)], blocks[blocks.index(off) + 1 :]
    assert len(before) > 3
    (bare.root / "srv/release/entries.yaml").write_text(ADDRESS_AND_AUTO)
    path = "export PATH=$PATH:/opt/meshdns/bin"
    for block in (*before, *after, off):
        # A name that has just been mounted is known within a second.
        retried = f"for try in 1 2 3 4 5 6 7 8 9 10; do {block.splitlines()[0]} && break; sleep 1; done\n"
        script = (retried if block.startswith("getent") else "") + block
        done = bare.run("sh", "-euxc", f"cd /srv/release; {path}; {script}", environment=OFFLINE, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def test_cloud_init(bare: Machine) -> None:
    """What cloud-init would do by the page's example gives a machine that knows the name of its manifest."""
    (block,) = _blocks("yaml")
    path = re.search(r"path: (\S+)", block)
    content = re.search(r"content: \|\n((?: {6}.*\n)+)", block)
    command = re.search(r"runcmd:\n  - (.*)\n", block)
    assert path
    assert content
    assert command
    bare.run("install", "-D", "/dev/stdin", path[1], stdin=re.sub("(?m)^ {6}", "", content[1]))
    bare.run("sh", "-c", command[1], environment=OFFLINE)
    assert bare.page("auto.internal") == "page of 198.51.100.2"
