"""A node with the images that `scripts/image` built, and the two ServiceEntries as a ConfigMap."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from image.image import Image, built
from image.kubelet import Node
from image.world import world
from resolving import ADDRESS_AND_AUTO

from meshdns.init.version import VERSION


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a directory that every user may enter: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="mdt-pod-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def meshdns() -> Image:
    return built("meshdns")


@pytest.fixture
def node(home: Path, meshdns: Image) -> Iterator[Node]:
    """Make a node; `meshdns:next` is what the sidecar is upgraded to."""
    with world(home) as around:
        images = {"app:1": built("app"), f"meshdns:{VERSION}": meshdns, "meshdns:next": meshdns}
        yield Node(around, images, home, {"meshdns-entries": {"external.yaml": ADDRESS_AND_AUTO}})
