"""The images that `scripts/image` built: a root file system and what the Dockerfile says to run in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BUILT: Final = Path(__file__).parent.parent.parent / ".image"


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a container runtime sees it; `user` is UID:GID."""

    rootfs: Path
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    environment: dict[str, str]
    directory: str
    labels: dict[str, str]


def built(name: str) -> Image:
    """Return the image that `scripts/image` left under this name."""
    config = json.loads((BUILT / name / "config.json").read_text())["OCIv1"]["config"]
    return Image(
        rootfs=(BUILT / name / "rootfs").resolve(strict=True),
        entrypoint=tuple(config.get("Entrypoint", ())),
        command=tuple(config.get("Cmd", ())),
        user=config.get("User", "0:0"),
        environment=dict(line.split("=", 1) for line in config.get("Env", ())),
        directory=config.get("WorkingDir", "/"),
        labels=config.get("Labels", {}),
    )
