"""Putting our parts into a pod, and telling them from its own.

First come the rules, then the resolver, then the pod's own init containers, then its containers. The rules go first
because they do nothing until the resolver beats (docs/adr/0007): a lookup before that reaches the nameserver, and from
the first beat on nothing passes by. The resolver goes before the pod's init containers, and its startup probe holds
them until it answers, so that they find names of the mesh too. As an ordinary container it stands last, because kubectl
takes the first one when none is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from meshdns.init.inject.container import (
    COMMANDS,
    VOLUMES,
    Injection,
    Part,
    capture_container,
    resolver_container,
    volumes,
)
from meshdns.init.inject.values import absent, same

CONTAINERS: Final = ("initContainers", "containers")

Native = Callable[[Any], Any]
"""Makes of plain values what the document at hand is made of."""


def arrange(spec: Any, asked: Injection, native: Native, *, annotated: bool) -> bool:  # noqa: ANN401 - see Workload.spec
    """Change a pod's spec so that it holds what was asked for; returns False where it did already."""
    resolver = resolver_container(asked, annotated=annotated)
    first = [capture_container(asked, annotated=annotated)]
    last = [resolver] if asked.classic else []
    if not asked.classic:
        first.append(resolver)
    changed = [
        _place(spec, "initContainers", first, native, in_front=True),
        _place(spec, "containers", last, native),
        _place(spec, "volumes", volumes(asked, annotated=annotated), native),
    ]
    return any(changed)


def is_ours(field: str, part: Mapping[str, Any]) -> bool:
    """Return whether an item of `initContainers`, `containers` or `volumes` is one that was put there by us."""
    name = part.get("name")
    if field in CONTAINERS:
        return name in COMMANDS and same(COMMANDS[name], part.get("command"))
    return name in VOLUMES


def of_the_pod(spec: Mapping[str, Any], field: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the pod's own items of a list with their positions, ours left out."""
    present = spec.get(field)
    for index, part in enumerate(() if absent(present) else present):  # type: ignore[arg-type]  # not absent: a list
        if not is_ours(field, part):
            yield index, part


def _place(spec: Any, field: str, parts: list[Part], native: Native, *, in_front: bool = False) -> bool:  # noqa: ANN401
    present = spec.get(field)
    if absent(present):
        if parts:
            spec[field] = native(parts)
        return bool(parts)
    places = [index for index, part in enumerate(present) if is_ours(field, part)]
    if same(parts, [present[index] for index in places]) and not (in_front and places != list(range(len(places)))):
        return False
    for index in reversed(places):
        del present[index]
    for index, part in enumerate(parts):
        present.insert(index if in_front else len(present), native(part))
    if not present:
        del spec[field]
    return True
