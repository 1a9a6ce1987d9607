"""Istio's own settings, where Istio's users write them -> settings of ours, each with the place where it stood.

Read are ISTIO_META_DNS_CAPTURE and ISTIO_META_DNS_AUTO_ALLOCATE (in `proxyMetadata` of an IstioOperator or mesh config,
in the annotation proxy.istio.io/config, in the environment) and the annotations traffic.sidecar.istio.io/…. What else
stands in these documents is Istio's business. Nothing is decided here that an option does not say as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from meshdns.init.annotations import Annotation, read_annotations
from meshdns.init.errors import ConfigurationError
from meshdns.init.options import nearest
from meshdns.init.parameters import CIDR, INTERFACE, PORT_RANGE, Keyword, ListType
from meshdns.resolver.source.tree import Fields, Value

METADATA: Final[Mapping[str, str]] = {
    "ISTIO_META_DNS_CAPTURE": "dns",
    "ISTIO_META_DNS_AUTO_ALLOCATE": "auto-allocate",
}
"""Key of `proxyMetadata`, and variable, -> option."""
PROXY_CONFIG: Final = "proxy.istio.io/config"
INTERCEPTION_MODE: Final = "sidecar.istio.io/interceptionMode"
TRAFFIC: Final = "traffic.sidecar.istio.io/"
_PORTS: Final = ListType(PORT_RANGE)
ANNOTATIONS: Final[Mapping[str, tuple[str, ListType[Any]]]] = {
    f"{TRAFFIC}includeOutboundIPRanges": ("outbound-cidr", ListType(Keyword(CIDR, "*"))),
    f"{TRAFFIC}excludeOutboundIPRanges": ("exclude-outbound-cidr", ListType(CIDR)),
    f"{TRAFFIC}includeOutboundPorts": ("outbound-ports", _PORTS),
    f"{TRAFFIC}excludeOutboundPorts": ("exclude-outbound-ports", _PORTS),
    f"{TRAFFIC}includeInboundPorts": ("inbound-ports", ListType(Keyword(PORT_RANGE, "*"))),
    f"{TRAFFIC}excludeInboundPorts": ("exclude-inbound-ports", _PORTS),
    f"{TRAFFIC}excludeInterfaces": ("exclude-interface", ListType(INTERFACE)),
    f"{TRAFFIC}kubevirtInterfaces": ("virtual-interface", ListType(INTERFACE)),
    "istio.io/reroute-virtual-interfaces": ("virtual-interface", ListType(INTERFACE)),  # the newer name: it wins
}
"""Annotation -> option, and what its value may be. An empty value is the option's default, as in Istio."""

MAX_MESH_CONFIG_BYTES: Final = 4 * 1024 * 1024
"""A ConfigMap, where mesh config lives in a cluster, holds 1 MiB."""

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
"""What Go's strconv.ParseBool takes, and nothing else."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for an option, as its type gives it (a tuple where the option may be repeated), and where it stood."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Settings by option name, and what was found that nothing reads."""

    settings: Mapping[str, Setting] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def proxy_settings(
    mesh_config: Path | None, pod_annotations: Path | None, environment: Mapping[str, str]
) -> ProxySettings:
    """Return what Istio's documents and variables say; an annotation goes before a variable, that before mesh config.

    ConfigurationError: a document or value that cannot be understood, with its place.
    """
    found: dict[str, Setting] = {}
    if mesh_config:
        found.update(_mesh_settings(_read(mesh_config), str(mesh_config)))
    for name, option in METADATA.items():
        if name in environment:
            found[option] = switch(name, environment[name], "the environment")
    warnings: tuple[str, ...] = ()
    if pod_annotations:
        annotated = annotated_settings(read_annotations(pod_annotations), str(pod_annotations))
        found.update(annotated.settings)
        warnings = annotated.warnings
    return ProxySettings(found, warnings)


def annotated_settings(annotations: Mapping[str, Annotation], file: str) -> ProxySettings:
    """Return what a pod's annotations say; ConfigurationError with the line of one that cannot be understood."""
    return ProxySettings(_annotated(annotations, file), tuple(_unread(annotations, file)))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MESH_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read the mesh config: {path}: {error.strerror}") from error
    if len(data) > MAX_MESH_CONFIG_BYTES:
        raise ConfigurationError(f"cannot read the mesh config: {path}: more than {MAX_MESH_CONFIG_BYTES >> 20} MiB")
    return data


def _mesh_settings(data: bytes, file: str) -> dict[str, Setting]:
    """Return what the documents of a file say; a later one goes before an earlier one."""
    found: dict[str, Setting] = {}
    for root in _documents(data, file):
        for mesh, where in _mesh_configs(root, file):
            config = _child(mesh, "defaultConfig", where)
            found.update(_proxy_config(config, where) if config else {})
    return found


def _mesh_configs(root: Fields, file: str) -> Iterator[tuple[Fields, str]]:
    """Yield the mesh configs of a document, the one that wins last."""
    kind = root.get("kind")
    if kind == "IstioOperator":
        spec = _child(root, "spec", file)
        values = _child(spec, "values", file) if spec else None
        found = [_child(holder, "meshConfig", file) for holder in (spec, values) if holder]
        yield from ((mesh, file) for mesh in found if mesh)
    elif kind == "ConfigMap":
        data = _child(root, "data", file)
        text = data.get("mesh") if data else None
        if isinstance(text, str):
            where = f"{file}:{root.line_of(('data', 'mesh'))}: data.mesh"
            yield from ((mesh, where) for mesh in _documents(text.encode(), where))
    elif kind is not None:
        raise ConfigurationError(
            f"cannot use {file}:{root.line_of(('kind',))}: no mesh config in kind {kind}: give an IstioOperator,"
            " Istio's ConfigMap, or mesh config itself"
        )
    else:
        in_values = _child(root, "meshConfig", file)  # values of Istio's Helm chart
        yield from ((mesh, file) for mesh in (root, in_values) if mesh)


def _proxy_config(config: Fields, where: str) -> dict[str, Setting]:
    """Return what a proxy config says in `interceptionMode` and in its `proxyMetadata`."""
    found = {}
    key, mode = _field(config, "interceptionMode")
    if mode is not None:
        found["inbound-mode"] = _mode(mode, f"{key} in {where}:{config.line_of((key,))}")
    metadata = _child(config, "proxyMetadata", where)
    for name, option in METADATA.items():
        if metadata and name in metadata:
            value = metadata[name]
            place = f"{where}:{metadata.line_of((name,))}"
            if not isinstance(value, str):
                raise ConfigurationError(f'cannot use {name} in {place}: give "true" or "false"')
            found[option] = switch(name, value, place)
    return found


def _annotated(annotations: Mapping[str, Annotation], file: str) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    if config := annotations.get(PROXY_CONFIG):
        where = f"{file}:{config.line}: {PROXY_CONFIG}"
        for root in _documents(config.value.encode(), where):
            found.update(_proxy_config(root, where))
    for name, (option, kind) in ANNOTATIONS.items():
        annotation = annotations.get(name)
        if annotation and annotation.value.strip():
            found[option] = _listed(name, annotation, kind, file)
    if mode := annotations.get(INTERCEPTION_MODE):
        found["inbound-mode"] = _mode(mode.value, f"{INTERCEPTION_MODE} in {file}:{mode.line}")
    return found


def _listed(name: str, annotation: Annotation, kind: ListType[Any], file: str) -> Setting:
    place = f"{file}:{annotation.line}"
    try:
        return Setting(kind.convert(annotation.value, None, None), f"{name} in {place}")
    except click.BadParameter as error:
        raise ConfigurationError(f"cannot use {name} in {place}: {error.message}") from error


def _mode(value: Value, place: str) -> Setting:
    if value == "NONE":
        raise ConfigurationError(f"cannot use {place}: NONE captures nothing: run no `capture install` in this pod")
    if not isinstance(value, str) or value not in {"REDIRECT", "TPROXY"}:
        raise ConfigurationError(f"cannot use {place}: {value!r} is neither REDIRECT nor TPROXY")
    return Setting(value.lower(), place)


def switch(name: str, value: str, place: str) -> Setting:
    """Return a boolean as Go reads it, found in `place` under `name`; ConfigurationError for anything else."""
    if value not in _TRUE | _FALSE:
        raise ConfigurationError(f"cannot use {name} in {place}: {value!r} is not a boolean: write true or false")
    return Setting(value in _TRUE, f"{name} in {place}")


def _unread(annotations: Iterable[str], file: str) -> Iterator[str]:
    for name in annotations:
        if name.startswith(TRAFFIC) and name not in ANNOTATIONS:
            yield f"nothing reads the annotation {name} in {file}{nearest(name, ANNOTATIONS)}"


def _documents(data: bytes, file: str) -> Iterator[Fields]:
    from meshdns.resolver.source.manifest import Document, documents  # noqa: PLC0415 - YAML costs 10 ms and 3 MB

    for document in documents(data, file):
        for problem in document.problems if isinstance(document, Document) else (document.problem,):
            raise ConfigurationError(f"cannot read {problem.file}:{max(problem.line, 1)}: {problem.reason}")
        if isinstance(document, Document):
            yield document.root


def _field(fields: Fields, name: str) -> tuple[str, Value]:
    """Return a field's name as it is written, and its value; Protocol Buffers let it be spelt in snake_case."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    key = name if name in fields else snake
    return key, fields.get(key)


def _child(fields: Fields, name: str, where: str) -> Fields | None:
    """Return the mapping called `name`, None where there is none."""
    key, value = _field(fields, name)
    if value is None or isinstance(value, Fields):
        return value
    raise ConfigurationError(f"cannot read {where}:{fields.line_of((key,))}: {key} must be a mapping")
