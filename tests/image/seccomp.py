"""The system calls that RuntimeDefault allows: the profile that Debian ships for its container engines.

The profile says which calls come with which capability, machine and kernel; an OCI runtime wants the outcome.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

PROFILE: Final = Path("/usr/share/containers/seccomp.json")
"""Of the package golang-github-containers-common, which buildah brings."""
MACHINES: Final = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


def runtime_default(capabilities: frozenset[str]) -> dict[str, Any]:
    """Return `linux.seccomp` of an OCI configuration for a container with these capabilities."""
    profile = json.loads(PROFILE.read_text())
    machine, architecture = MACHINES[platform.machine()]
    others = next(known["subArchitectures"] for known in profile["archMap"] if known["architecture"] == architecture)
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [architecture, *others],
        "syscalls": [
            {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)}
            for rule in profile["syscalls"]
            if all(_holds(condition, capabilities, machine) for condition in _conditions(rule.get("includes", {})))
            and not any(_holds(condition, capabilities, machine) for condition in _conditions(rule.get("excludes", {})))
        ],
    }


def _conditions(conditions: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(kind, value) for kind, value in conditions.items() if value]


def _holds(condition: tuple[str, Any], capabilities: frozenset[str], machine: str) -> bool:
    kind, value = condition
    match kind:
        case "caps":
            return capabilities.issuperset(value)
        case "arches":
            return machine in value
        case "minKernel":
            running = tuple(int(part) for part in os.uname().release.split(".")[:2])
            return running >= tuple(int(part) for part in value.split("."))
    raise NotImplementedError(f"{PROFILE}: condition {kind}")
