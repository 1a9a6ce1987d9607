"""Putting our parts into a pod, and telling them from its own.

First come the rules, then the resolver, then the pod's own init containers, then its containers. The rules go first
because they do nothing until the resolver beats (docs/adr/0015): a lookup before that reaches the nameserver, and from
the first beat on nothing passes by. The resolver goes before the pod's init containers, and its startup probe holds
them until it answers, so that they find names of the mesh too. As an ordinary container it stands last, because kubectl
takes the first one when none is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one list of a pod's spec: the items at `gone` go, `parts` come, to the front or to the end.

    `gone` is in order. The list is made where it is missing, and never becomes empty.
    """

    field: str
    gone: tuple[int, ...]
    parts: list[Part]
    in_front: bool


def changes(spec: Mapping[str, Any], asked: Injection, *, annotated: bool) -> list[Change]:
    """Return what makes a pod hold what was asked for; nothing where it does already."""
    resolver = [resolver_container(asked, annotated=annotated)]
    capture = [capture_container(asked, annotated=annotated)]
    wanted = (
        ("initContainers", capture if asked.classic else capture + resolver, True),
        ("containers", resolver if asked.classic else [], False),
        ("volumes", volumes(asked, annotated=annotated), False),
    )
    found = (_change(spec, field, parts, in_front=in_front) for field, parts, in_front in wanted)
    return [change for change in found if change]


def _change(spec: Mapping[str, Any], field: str, parts: list[Part], *, in_front: bool) -> Change | None:
    present = [] if absent(spec.get(field)) else spec[field]
    gone = tuple(index for index, part in enumerate(present) if is_ours(field, part))
    if same(parts, [present[index] for index in gone]) and not (in_front and gone != tuple(range(len(gone)))):
        return None
    return Change(field, gone, parts, in_front)


def apply(spec: Any, change: Change, native: Native) -> None:  # noqa: ANN401 - a mapping of the document's own type
    """Carry a change out."""
    if absent(spec.get(change.field)):
        spec[change.field] = native(change.parts)
        return
    present = spec[change.field]
    for index in reversed(change.gone):
        del present[index]
    for index, part in enumerate(change.parts):
        present.insert(index if change.in_front else len(present), native(part))


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
