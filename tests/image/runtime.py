"""Containers as containerd makes them: an OCI bundle for each, run by crun; door: processes, mounts.

Root file systems are overlays, so that no container changes an image. Nothing here decides: `kubelet.py` says what a
container runs with.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from image.seccomp import runtime_default

CRUN: Final = "crun"
START_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the node at a path of the container."""

    source: Path
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a container runs with; capabilities with CAP_ in front."""

    rootfs: Path
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: frozenset[str]
    no_new_privileges: bool
    read_only_root: bool
    seccomp: bool
    mounts: tuple[Mount, ...]
    network: str
    hostname: str


class Container:
    """One run of a container: from start to exit. Its output stands in `log`."""

    def __init__(self, spec: Spec, name: str, home: Path) -> None:
        self.name = name
        self.log = home / "log"
        self._state = home.parent / "crun"
        self._known = self._state / name / "status"
        self._pid = home / "pid"
        bundle = home / "bundle"
        layers = [home / layer for layer in ("upper", "work", "rootfs")]
        for directory in (bundle, *layers):
            directory.mkdir(parents=True)
        upper, work, rootfs = layers
        overlay = f"lowerdir={spec.rootfs},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", overlay, str(rootfs)], check=True)
        self._rootfs = rootfs
        (bundle / "config.json").write_text(json.dumps(_configuration(spec, rootfs), indent=1))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._crun, "run", "--bundle", str(bundle), "--pid-file", str(self._pid), name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def _crun(self) -> list[str]:
        return [CRUN, "--root", str(self._state), "--cgroup-manager=disabled"]

    @property
    def pid(self) -> int:
        """The process id, on the node, of the container's first process, which has started."""
        give_up = time.monotonic() + START_S
        while not (self._known.exists() and self._pid.exists() and (text := self._pid.read_text())):
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError(f"container {self.name} did not start:\n{self.output()}")
            time.sleep(0.01)
        return int(text)

    def output(self) -> str:
        """Return what it wrote so far, both streams."""
        return self.log.read_text()

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit code, 128 + N where signal N ended it; None while it runs for longer than this."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        subprocess.run(["umount", "--lazy", str(self._rootfs)], check=False, stderr=subprocess.DEVNULL)
        return code

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the container's first process, as from outside."""
        if self._process.poll() is None:
            os.kill(self.pid, number)

    def execute(self, *arguments: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as `kubectl exec` does."""
        return subprocess.run(
            self._enter(arguments),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def execute_later(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a program inside; it must end by itself."""
        return subprocess.Popen(self._enter(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def _enter(self, arguments: Sequence[str]) -> list[str]:
        assert self.pid  # before, crun knows no such container
        return [*self._crun, "exec", self.name, *arguments]


_DEVICES: Final = (
    ("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),  # noqa: S108 - a container's
    ("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
)
"""What containerd mounts into every container (oci/spec.go: defaultMounts)."""
_MASKED: Final = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def _configuration(spec: Spec, rootfs: Path) -> dict[str, Any]:
    """Return the bundle's config.json (OCI runtime specification 1.0)."""
    held = sorted(spec.capabilities)
    bound = [
        {
            "destination": mount.target,
            "type": "bind",
            "source": str(mount.source),
            "options": ["rbind", "rprivate", "ro" if mount.read_only else "rw"],
        }
        for mount in spec.mounts
    ]
    linux: dict[str, Any] = {
        "namespaces": [
            *({"type": kind} for kind in ("pid", "mount", "ipc", "uts")),
            {"type": "network", "path": spec.network},
        ],
        "maskedPaths": list(_MASKED),
        "readonlyPaths": list(_READ_ONLY),
    }
    if spec.seccomp:
        linux["seccomp"] = runtime_default(spec.capabilities)
    return {
        "ociVersion": "1.0.0",
        "root": {"path": str(rootfs), "readonly": spec.read_only_root},
        "hostname": spec.hostname,
        "process": {
            "terminal": False,
            "user": {"uid": spec.uid, "gid": spec.gid, "additionalGids": list(spec.groups)},
            "args": list(spec.arguments),
            "env": [f"{name}={value}" for name, value in spec.environment.items()],
            "cwd": spec.directory,
            # Neither inheritable nor ambient: another user than root has none after exec, whatever is added.
            "capabilities": {"bounding": held, "permitted": held, "effective": held},
            "noNewPrivileges": spec.no_new_privileges,
        },
        "mounts": [
            *({"destination": to, "type": kind, "source": what, "options": how} for to, kind, what, how in _DEVICES),
            *bound,
        ],
        "linux": linux,
    }
