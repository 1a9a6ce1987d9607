"""What stands of each file: its objects as they are now or as they last were good. Pure: outcomes in, values out.

A bad object, known by kind, namespace and name, keeps its last good version, whichever file that came from. A file that
stops parsing keeps its objects from the broken one on: those that came after the last one which could still be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from meshdns.resolver.source import rules
from meshdns.resolver.source.entry import Entry
from meshdns.resolver.source.manifest import Break
from meshdns.resolver.source.problem import Problem
from meshdns.resolver.source.read import Identity, Ignored, Outcome

Past = Mapping[Identity, Entry]
"""The last good version of every object."""


class Standing(NamedTuple):
    """One object that is served. `is_current`: as the file says now; otherwise it is the last good version.

    `is_there`: the file still has the object, good or bad; otherwise nobody knows, for the file breaks before it.
    """

    identity: Identity
    entry: Entry
    is_current: bool = True
    is_there: bool = True


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """One file: the path it was found by (`root`), its own, the digest of its bytes, and what stands of it.

    `digest` is empty when the file could not be read.
    """

    root: str
    path: str
    digest: bytes
    objects: tuple[Standing, ...]
    problems: tuple[Problem, ...]
    ignored: int = 0


def past_of(files: Iterable[LoadedFile]) -> Past:
    """Return the last good version of each object in `files`; a current one before one that is only kept."""
    past: dict[Identity, Entry] = {}
    for current in (True, False):
        for file in files:
            for standing in file.objects:
                if standing.is_current is current:
                    past.setdefault(standing.identity, standing.entry)
    return past


def standing_file(
    outcomes: Iterable[Outcome | Ignored | Break], place: LoadedFile, before: LoadedFile | None, past: Past
) -> LoadedFile:
    """Return `place` with what stands of it now that this was read; `before` is what stood of it last time."""
    objects: list[Standing] = []
    problems: list[Problem] = []
    seen: set[Identity] = set()
    ignored: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, Break):
            problems.append(outcome.problem)
            objects += _kept_from_break(before, seen)
            continue
        problems += outcome.problems
        if isinstance(outcome, Ignored):
            ignored[outcome.kind] += 1
        elif outcome.identity is not None:
            seen.add(outcome.identity)
            entry = outcome.entry or past.get(outcome.identity)
            if entry is not None:
                objects.append(Standing(outcome.identity, entry, outcome.entry is not None))
    return replace(place, objects=tuple(objects), problems=tuple(problems), ignored=ignored.total())


def unread_file(problem: Problem, place: LoadedFile, before: LoadedFile | None) -> LoadedFile:
    """Return `place` with what stands of it while it cannot be read at all: everything as it was."""
    return replace(place, objects=tuple(_kept_from_break(before, set())), problems=(problem,))


def _kept_from_break(before: LoadedFile | None, seen: set[Identity]) -> list[Standing]:
    """Return the objects that stood after the last one that was seen again."""
    former = before.objects if before else ()
    last = max((index for index, standing in enumerate(former) if standing.identity in seen), default=-1)
    return [standing._replace(is_current=False, is_there=False) for standing in former[last + 1 :]]


def served(files: Iterable[LoadedFile]) -> tuple[tuple[Entry, ...], list[Problem]]:
    """Return the entries of all files, each object once, and what is to say about objects that stand twice.

    The first in the order of files counts, also while it is bad and its last good version stands for it. What is only
    kept because its file breaks before it gives way to a current one: it may have been moved there.
    """
    chosen: dict[Identity, Standing] = {}
    problems = []
    for file in files:
        for standing in file.objects:
            other = chosen.setdefault(standing.identity, standing)
            if other is standing:
                continue
            if standing.is_current and not other.is_there:
                chosen[standing.identity] = standing
            elif standing.is_current:
                problems.append(_twice(standing, other))
    return tuple(standing.entry for standing in chosen.values()), problems


def _twice(standing: Standing, other: Standing) -> Problem:
    rule = rules.DUPLICATE_OBJECT
    origin = standing.entry.meta.origin
    reason = f"{standing.identity} already stands at {other.entry.meta.origin}"
    return Problem(origin.file, origin.line, "metadata.name", rule.id, rule.level, reason, rule.fix)
