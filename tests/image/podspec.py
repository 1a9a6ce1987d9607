"""A Pod as kubelet reads it (Kubernetes core/v1). What is written here but not understood is an error.

A harness that ignored a field would prove nothing about it. So each mapping is emptied while it is read, and what is
left at the end raises `NotImplementedError` with its place. Fields that change nothing on the node are named as such.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

FOR_OTHERS: Final = {
    "container": ("imagePullPolicy", "ports", "terminationMessagePolicy"),
    "metadata": ("creationTimestamp", "generateName"),
}
"""For a registry's client, for readers, for a status that nobody reads here."""
DEFAULT_CAPABILITIES: Final = frozenset(
    [
        "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID",
        "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP",
        "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
    ]
)  # fmt: skip
"""What containerd gives a container that asks for nothing."""


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP probe; the times are seconds."""

    path: str
    port: int
    period_s: float
    timeout_s: float
    failures: int


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """Where a volume appears in a container."""

    volume: str
    path: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable: a value, or the field of the Pod that has it."""

    name: str
    value: str | None
    field: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container; None is the image's own choice."""

    name: str
    image: str
    command: tuple[str, ...] | None
    arguments: tuple[str, ...] | None
    variables: tuple[Variable, ...]
    mounts: tuple[VolumeMount, ...]
    probes: Mapping[str, Probe]
    memory_limit_bytes: int | None
    user: int | None
    group: int | None
    must_not_be_root: bool
    escalation: bool
    capabilities: frozenset[str]
    read_only_root: bool
    seccomp: bool
    sidecar: bool


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume; `source` is the kind, `config_map` and `items` say what is in it."""

    name: str
    source: str
    config_map: str = ""
    optional: bool = False
    mode: int = 0o644
    items: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PodSpec:
    """A Pod; `metadata` as it is written."""

    metadata: Mapping[str, Any]
    init_containers: tuple[ContainerSpec, ...]
    containers: tuple[ContainerSpec, ...]
    volumes: tuple[Volume, ...]
    fs_group: int | None
    grace_s: float


class Fields(dict[str, Any]):
    """A mapping that is emptied while it is read."""

    def some(self, *names: str) -> dict[str, Any]:
        """Take these fields, as far as they are there."""
        return {name: self.pop(name) for name in names if name in self}


@contextlib.contextmanager
def fields(mapping: Mapping[str, Any] | None, where: str) -> Iterator[Fields]:
    """Give the mapping's fields to be taken out; raise for what was not."""
    left = Fields(mapping or {})
    yield left
    if left:
        raise NotImplementedError(f"{where}: {', '.join(left)}")


def read(manifest: Mapping[str, Any]) -> PodSpec:
    """Read a Pod; raise NotImplementedError naming what is not understood."""
    with fields(manifest, "pod") as pod:
        if (pod.pop("apiVersion"), pod.pop("kind")) != ("v1", "Pod"):
            raise NotImplementedError(f"not a Pod of v1: {manifest}")
        metadata = pod.pop("metadata")
        with fields(metadata, "metadata") as named:
            named.some("name", "namespace", "labels", "annotations", *FOR_OTHERS["metadata"])
        with (
            fields(pod.pop("spec"), "spec") as spec,
            fields(spec.pop("securityContext", {}), "security") as shared,
        ):
            return PodSpec(
                metadata=metadata,
                init_containers=tuple(_container(each, shared, init=True) for each in spec.pop("initContainers", [])),
                containers=tuple(_container(each, shared, init=False) for each in spec.pop("containers")),
                volumes=tuple(map(_volume, spec.pop("volumes", []))),
                fs_group=shared.pop("fsGroup", None),
                grace_s=spec.pop("terminationGracePeriodSeconds", 30),
            )


def _container(manifest: Mapping[str, Any], shared: Mapping[str, Any], *, init: bool) -> ContainerSpec:
    if unknown := set(shared) - {"fsGroup"}:
        raise NotImplementedError(f"spec.securityContext: {', '.join(unknown)}")
    name = manifest["name"]
    with (
        fields(manifest, name) as left,
        fields(left.pop("securityContext", {}), f"{name}: security") as security,
    ):
        left.some(*FOR_OTHERS["container"])
        if (policy := left.pop("restartPolicy", None)) not in ({None, "Always"} if init else {None}):
            raise NotImplementedError(f"{name}: restartPolicy: {policy}")
        if security.pop("privileged", False):
            raise NotImplementedError(f"{name}: privileged")
        return ContainerSpec(
            name=left.pop("name"),
            image=left.pop("image"),
            command=_arguments(left.pop("command", None)),
            arguments=_arguments(left.pop("args", None)),
            variables=tuple(_variable(each) for each in left.pop("env", [])),
            mounts=tuple(_mount(each) for each in left.pop("volumeMounts", [])),
            probes={
                kind: _probe(left.pop(f"{kind}Probe"), f"{name}: {kind}Probe")
                for kind in ("startup", "readiness", "liveness")
                if f"{kind}Probe" in left
            },
            memory_limit_bytes=_memory_limit(left.pop("resources", {}), name),
            user=security.pop("runAsUser", None),
            group=security.pop("runAsGroup", None),
            must_not_be_root=security.pop("runAsNonRoot", False),
            escalation=security.pop("allowPrivilegeEscalation", True),
            capabilities=_capabilities(security.pop("capabilities", {}), name),
            read_only_root=security.pop("readOnlyRootFilesystem", False),
            seccomp=_seccomp(security.pop("seccompProfile", {}), name),
            sidecar=policy == "Always",
        )


def _arguments(words: list[str] | None) -> tuple[str, ...] | None:
    if words is not None and any("$(" in word for word in words):
        raise NotImplementedError(f"a variable in {words}")
    return None if words is None else tuple(words)


def _capabilities(change: Mapping[str, Any], name: str) -> frozenset[str]:
    with fields(change, f"{name}: capabilities") as left:
        dropped = {f"CAP_{each}" for each in left.pop("drop", [])}
        kept = frozenset() if "CAP_ALL" in dropped else DEFAULT_CAPABILITIES - dropped
        return kept | {f"CAP_{each}" for each in left.pop("add", [])}


def _seccomp(profile: Mapping[str, Any], name: str) -> bool:
    with fields(profile, f"{name}: seccompProfile") as left:
        if (kind := left.pop("type", "Unconfined")) not in ("RuntimeDefault", "Unconfined"):
            raise NotImplementedError(f"{name}: seccompProfile {kind}")
        return bool(kind == "RuntimeDefault")


def _variable(manifest: Mapping[str, Any]) -> Variable:
    name = manifest["name"]
    with fields(manifest, f"env {name}") as left, fields(left.pop("valueFrom", {}), f"env {name}") as source:
        left.pop("name")
        with fields(source.pop("fieldRef", {}), f"env {name}: fieldRef") as reference:
            reference.pop("apiVersion", None)
            field = reference.pop("fieldPath", None)
        value = left.pop("value", None if field else "")
        _arguments([value or ""])
        return Variable(name, value, field)


def _mount(manifest: Mapping[str, Any]) -> VolumeMount:
    with fields(manifest, f"volumeMount {manifest['name']}") as left:
        return VolumeMount(left.pop("name"), left.pop("mountPath"), left.pop("readOnly", False))


def _probe(manifest: Mapping[str, Any], where: str) -> Probe:
    with fields(manifest, where) as left, fields(left.pop("httpGet"), where) as get:
        return Probe(
            path=get.pop("path"),
            port=get.pop("port"),
            period_s=left.pop("periodSeconds", 10),
            timeout_s=left.pop("timeoutSeconds", 1),
            failures=left.pop("failureThreshold", 3),
        )


def _memory_limit(manifest: Mapping[str, Any], name: str) -> int | None:
    """Return the limit on memory; requests are the scheduler's, a limit on CPU only slows."""
    with fields(manifest, f"{name}: resources") as left, fields(left.pop("limits", {}), f"{name}: limits") as limits:
        left.pop("requests", None)
        limits.pop("cpu", None)
        text = limits.pop("memory", None)
        return None if text is None else int(text.removesuffix("Mi")) * 1024 * 1024


def _volume(manifest: Mapping[str, Any]) -> Volume:
    name = manifest["name"]
    with fields(manifest, f"volume {name}") as left:
        left.pop("name")
        (source,) = left.some("configMap", "emptyDir", "downwardAPI")
        with fields(manifest[source], f"volume {name}: {source}") as inner:
            if source == "emptyDir":
                inner.some("sizeLimit", "medium")  # where the bytes are, and how many: not what a container sees
                return Volume(name, source)
            mode = inner.pop("defaultMode", 0o644)
            if source == "configMap":
                return Volume(name, source, inner.pop("name"), inner.pop("optional", False), mode)
            items = tuple((item["path"], item["fieldRef"]["fieldPath"]) for item in inner.pop("items"))
            return Volume(name, source, mode=mode, items=items)
