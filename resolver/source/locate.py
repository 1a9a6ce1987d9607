"""Where in a file a field stands, for problems that were found on values: these know their document's line alone. Pure.

While serving nobody pays for this; `check` does, so that a remark on a pull request is at the line that it is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from meshdns.resolver.source.manifest import Document, documents
from meshdns.resolver.source.problem import Path, Problem
from meshdns.resolver.source.read import objects_of
from meshdns.resolver.source.tree import Fields

_STEP: Final = re.compile(r"\[(?P<index>\d+)\]|\['(?P<quoted>[^']*)'\]|\.?(?P<key>[^.\[]+)")


def at_their_fields(problems: Sequence[Problem], data: bytes) -> Iterator[Problem]:
    """Yield the problems of one file, whose content is `data`, each at the line of its field where that is certain."""
    objects: dict[int, list[Fields]] = {}
    for document in documents(data, ""):
        if isinstance(document, Document):
            for root in objects_of(document.root):
                objects.setdefault(root.line_of(()), []).append(root)
    for problem in problems:
        here = objects.get(problem.line, [])
        line = here[0].line_of(path_of(problem.field)) if len(here) == 1 else 0
        yield problem._replace(line=line) if line else problem


def path_of(field: str) -> Path:
    """Return the path that `problem.dotted` wrote: spec.hosts[0] is `("spec", "hosts", 0)`."""
    return tuple(
        int(step["index"]) if step["index"] else step["quoted"] or step["key"] or "" for step in _STEP.finditer(field)
    )
