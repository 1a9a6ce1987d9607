"""Where pods stand in a Kubernetes object: a Pod is one, a Deployment holds a template of one, a List holds objects.

Objects are mappings whose scalars are text (YAML) or JSON's own values. What is put into a pod, and which pods are
refused, must not be put here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshdns.init.inject.values import absent

Path = tuple[str | int, ...]

_TEMPLATE: Final = ("spec", "template")
KINDS: Final[Mapping[str, tuple[frozenset[str], tuple[str, ...]]]] = {
    "Pod": (frozenset({""}), ()),
    "ReplicationController": (frozenset({""}), _TEMPLATE),
    "Deployment": (frozenset({"apps"}), _TEMPLATE),
    "StatefulSet": (frozenset({"apps"}), _TEMPLATE),
    "DaemonSet": (frozenset({"apps"}), _TEMPLATE),
    "ReplicaSet": (frozenset({"apps"}), _TEMPLATE),
    "Job": (frozenset({"batch"}), _TEMPLATE),
    "CronJob": (frozenset({"batch"}), ("spec", "jobTemplate", "spec", "template")),
}
"""Kind -> the API groups in which it means this ("" is the core group), and where its pod stands."""

_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name", "image"),
    "initContainers": ("name", "image"),
    "volumes": ("name",),
}
"""What a pod's lists hold -> the fields of each part that are text, if they are there."""
_NAMES: Final = ("name", "generateName", "namespace")
"""The same for metadata."""

_LIST: Final = "List"


class MalformedError(Exception):
    """Something that is no Kubernetes object; `path` is where, from the document's root."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path


@dataclass(frozen=True, slots=True)
class Workload:
    """An object with a pod in it. `path` leads from the document's root to the object, `pod_path` to its pod."""

    kind: str
    metadata: Mapping[str, Any]
    pod: Any
    path: Path
    pod_path: Path

    @property
    def spec(self) -> Any:  # noqa: ANN401 - a mapping that may be changed, of the YAML library's own type
        """The pod's spec, to be read and changed."""
        return self.pod["spec"]

    @property
    def name(self) -> str:
        """As kubectl writes it: kind/name."""
        return f"{self.kind}/{self.metadata.get('name') or self.metadata.get('generateName') or '(no name)'}"

    def annotations(self) -> Mapping[str, Any]:
        """Return the pod's annotations."""
        return _annotations(_mapping(self.pod, "metadata", self.pod_path), self.pod_path)

    def object_annotations(self) -> Mapping[str, Any]:
        """Return the annotations of the object that the pod stands in, which may be itself."""
        return _annotations(self.metadata, self.path)


def may_hold_pods(root: Mapping[str, Any]) -> bool:
    """Return whether there can be a pod in an object; every other one is nobody's business here."""
    kind = root.get("kind")
    if kind != _LIST:
        return isinstance(kind, str) and (_is_list(kind) or _is_workload(kind, root.get("apiVersion")))
    items = root.get("items")
    return isinstance(items, list) and any(not isinstance(item, Mapping) or may_hold_pods(item) for item in items)


def workloads(root: Mapping[str, Any], path: Path = (), kind_of_items: str | None = None) -> Iterator[Workload]:
    """Yield the workloads of an object, those in lists too; MalformedError where the API server would see no object."""
    kind = root.get("kind", kind_of_items)
    if not isinstance(kind, str):
        raise MalformedError(path, "not a Kubernetes object: it has no kind")
    if _is_list(kind):
        items = root.get("items")
        if items is not None and not isinstance(items, list):
            raise MalformedError((*path, "items"), f"not a {kind}: its items are no list")
        for index, item in enumerate(items or ()):
            here = (*path, "items", index)
            if not isinstance(item, Mapping):
                raise MalformedError(here, "not a Kubernetes object: it is no mapping")
            yield from workloads(item, here, kind.removesuffix(_LIST) or None)
    elif kind_of_items or _is_workload(kind, root.get("apiVersion")):
        yield _workload(kind, root, path)


def _workload(kind: str, root: Mapping[str, Any], path: Path) -> Workload:
    pod = root
    pod_path = path
    for step in KINDS[kind][1]:
        pod = _mapping(pod, step, pod_path)
        pod_path = (*pod_path, step)
    spec = _mapping(pod, "spec", pod_path)
    if not isinstance(spec.get("containers"), list) or not spec["containers"]:
        raise MalformedError((*pod_path, "spec", "containers"), f"not a {kind}: its pod has no containers")
    for field, texts in _PARTS.items():
        if absent(spec.get(field)):
            continue
        if not _all_named(spec[field]):
            raise MalformedError((*pod_path, "spec", field), f"not a {kind}: each of its {field} needs a name")
        for index, part in enumerate(spec[field]):
            _need_text(part, texts, (*pod_path, "spec", field, index))
    metadata = _mapping(root, "metadata", path)
    _need_text(metadata, _NAMES, (*path, "metadata"))
    _need_text(_mapping(pod, "metadata", pod_path), _NAMES, (*pod_path, "metadata"))
    return Workload(kind, metadata, pod, path, pod_path)


def _need_text(parent: Mapping[str, Any], fields: Iterable[str], path: Path) -> None:
    """Refuse what is no text, or what a template has left, in fields that Kubernetes takes for names."""
    for field in fields:
        found = parent.get(field)
        if not absent(found) and (not isinstance(found, str) or "{{" in found):
            what = f"is {found}" if isinstance(found, str) else "is no text"
            raise MalformedError(
                (*path, field), f"not a Kubernetes object: its {field} {what}: is it a template that is not rendered?"
            )


def _all_named(parts: Any) -> bool:  # noqa: ANN401 - whatever a field says
    return isinstance(parts, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("name"), str) for part in parts
    )


def _annotations(metadata: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    return _mapping(metadata, "annotations", (*path, "metadata"))


def _mapping(parent: Mapping[str, Any], field: str, path: Path) -> Mapping[str, Any]:
    found = parent.get(field)
    if absent(found):
        return {}
    if not isinstance(found, Mapping):
        raise MalformedError((*path, field), f"not a Kubernetes object: its {field} is no mapping")
    return found


def _is_workload(kind: str, api_version: Any) -> bool:  # noqa: ANN401 - whatever an object says
    return kind in KINDS and _group(api_version) in KINDS[kind][0]


def _is_list(kind: str) -> bool:
    return kind == _LIST or (kind.endswith(_LIST) and kind.removesuffix(_LIST) in KINDS)


def _group(api_version: Any) -> str:  # noqa: ANN401 - whatever a document says
    group, slash, _ = str(api_version).partition("/")
    return group if slash else ""
