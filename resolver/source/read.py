"""A file's objects: bytes in, one outcome per object out. Dispatch by kind, names and labels; then `validate` judges.

Kinds that are not read are counted by the caller and otherwise ignored. Fields of each kind: `read_istio` and
`read_core`. https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from meshdns.resolver.source import fields, rules, syntax
from meshdns.resolver.source.entry import Entry, Meta, Origin
from meshdns.resolver.source.manifest import Break, documents
from meshdns.resolver.source.problem import Path, Problem, Report
from meshdns.resolver.source.read_core import read_endpoint_slice, read_service
from meshdns.resolver.source.read_istio import read_service_entry, read_workload_entry, without_bare_networks
from meshdns.resolver.source.tree import Fields, Items, Value
from meshdns.resolver.source.validate import validate

_ISTIO: Final = "networking.istio.io"
_READERS: Final[dict[tuple[str, str], Callable[[Fields, Meta, Report], Entry]]] = {
    **{(f"{_ISTIO}/{version}", "ServiceEntry"): read_service_entry for version in ("v1", "v1beta1", "v1alpha3")},
    **{(f"{_ISTIO}/{version}", "WorkloadEntry"): read_workload_entry for version in ("v1", "v1beta1", "v1alpha3")},
    ("v1", "Service"): read_service,
    ("discovery.k8s.io/v1", "EndpointSlice"): read_endpoint_slice,
}
_READ_KINDS: Final = frozenset(kind for _, kind in _READERS)
_OTHER_ISTIO_KINDS: Final = "DestinationRule EnvoyFilter Gateway ProxyConfig Sidecar VirtualService WorkloadGroup"
_ISTIO_KINDS: Final = frozenset({*_OTHER_ISTIO_KINDS.split(), "ServiceEntry", "WorkloadEntry"})
_META_FIELDS: Final = frozenset(
    {
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
    }
    | {
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)


class Identity(NamedTuple):
    """What an object is known by, from one version of its manifest to the next."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Outcome(NamedTuple):
    """What came of one object: `entry` is None when it is refused, `identity` when it has no name."""

    identity: Identity | None
    entry: Entry | None
    problems: tuple[Problem, ...] = ()


class Ignored(NamedTuple):
    """An object of a kind that is not read, such as a Deployment; there may be something to say about that."""

    kind: str
    problems: tuple[Problem, ...] = ()


def read(data: bytes, file: str, namespace: str) -> Iterator[Outcome | Ignored | Break]:
    """Yield what came of each object in `data`; `namespace` is for objects that name none. Never raises."""
    for document in documents(data, file):
        if isinstance(document, Break):
            yield document
        elif document.problems:
            yield Outcome(_identity(document.root, namespace), None, document.problems)
        else:
            for fields_ in objects_of(document.root):
                yield _read_object(fields_, file, namespace)


def objects_of(root: Fields) -> Iterator[Fields]:
    """Yield the objects of a `kind: List`, or the one object that `root` is.

    Items of a list of one kind, such as ServiceEntryList, may leave out what the list's own kind says.
    """
    kind, parts = root.get("kind"), root.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(parts, Items)):
        yield root
        return
    for part, line in zip(parts, parts.lines, strict=True):
        if not isinstance(part, Fields):
            empty = Fields(apiVersion="v1")
            empty.lines = [line]
            yield empty
            continue
        if kind != "List":
            for key, value in (("apiVersion", root.get("apiVersion")), ("kind", kind.removesuffix("List"))):
                if key not in part:
                    part[key] = value
                    part.lines.append(line)
        yield part


def _read_object(root: Fields, file: str, namespace: str) -> Outcome | Ignored:
    report = Report(file, root)
    version, kind = root.get("apiVersion"), root.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        missing = "apiVersion" if not isinstance(version, str) else "kind"
        report.add(rules.REQUIRED, (missing,), "must be a string: the object's type is not known without it")
        return Outcome(_identity(root, namespace), None, tuple(report.problems))
    reader = _READERS.get((version, kind))
    if reader is None:
        _explain_ignored(version, kind, report)
        return Ignored(str(kind), tuple(report.problems))
    meta = _read_meta(root, Origin(file, root.lines[0]), namespace, report)
    entry = reader(root, meta, report)
    if not report.refused:
        validate(entry, root, report)
    problems = tuple(report.problems)
    identity = Identity(str(kind), meta.namespace, meta.name) if meta.name else None
    if report.refused:
        return Outcome(identity, None, problems)
    usable = without_bare_networks(entry)
    return Outcome(identity, usable, problems) if usable else Ignored(str(kind), problems)


def _explain_ignored(version: str, kind: str, report: Report) -> None:
    """Say so where it looks like a slip that this object is not read."""
    if not version.startswith(f"{_ISTIO}/"):
        if kind in {"ServiceEntry", "WorkloadEntry"}:
            report.add(rules.UNKNOWN_VERSION, ("apiVersion",), f"{version[:64]!r} has no {kind}")
    elif kind in _READ_KINDS:
        report.add(rules.UNKNOWN_VERSION, ("apiVersion",), f"{version[:64]!r} is not known")
    elif kind not in _ISTIO_KINDS:
        report.add(rules.UNKNOWN_KIND, ("kind",), f"{kind[:64]!r} is not known{fields.nearest(kind, _ISTIO_KINDS)}")


def _identity(root: Fields, namespace: str) -> Identity | None:
    """Return what the object is known by, as far as a document that is refused tells."""
    kind, meta = root.get("kind"), root.get("metadata")
    name = meta.get("name") if isinstance(meta, Fields) else None
    if not isinstance(kind, str) or not isinstance(meta, Fields) or not isinstance(name, str):
        return None
    own = meta.get("namespace")
    return Identity(str(kind), str(own) if isinstance(own, str) else namespace, str(name))


def _read_meta(root: Fields, origin: Origin, default_namespace: str, report: Report) -> Meta:
    at: Path = ("metadata",)
    meta = fields.mapping(root, "metadata", (), report)
    fields.check_known(meta, _META_FIELDS, at, report)
    name = fields.text(meta, "name", at, report)
    namespace = fields.text(meta, "namespace", at, report) or default_namespace
    if not name:
        report.add(rules.REQUIRED, (*at, "name"), "an object must have a name")
    elif not syntax.OBJECT_NAME.fullmatch(name):
        report.add(rules.BAD_NAME, (*at, "name"), f"cannot be {name[:64]!r}")
    if not syntax.DNS_LABEL.fullmatch(namespace):
        report.add(rules.BAD_NAME, (*at, "namespace"), f"cannot be {namespace[:64]!r}")
    labels = fields.text_map(meta, "labels", at, report)
    _check_labels(labels, (*at, "labels"), report)
    annotations = fields.text_map(meta, "annotations", at, report)
    return Meta(origin, namespace, name, _created(meta.get("creationTimestamp"), report), labels, annotations)


def _check_labels(labels: dict[str, str], at: Path, report: Report) -> None:
    for key, value in labels.items():
        if not syntax.is_label(key, value):
            report.add(rules.BAD_LABEL, (*at, key), f"cannot be {value[:64]!r}")


def _created(value: Value, report: Report) -> float | None:
    if value is None:
        return None
    moment = syntax.timestamp(value) if isinstance(value, str) else None
    if moment is None:
        report.add(rules.BAD_TIME, ("metadata", "creationTimestamp"), f"cannot be {fields.kind_of(value)}")
    return moment
