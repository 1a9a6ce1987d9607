"""What a parsed document is made of: mappings and lists of text that know the line of each of their parts.

A scalar is the text that stood there; which type it has is decided by the field that asks (`read`). No YAML here.
"""

from __future__ import annotations

from typing import TypeAlias

from meshdns.resolver.source.problem import Path


class Quoted(str):
    """A scalar that was quoted, a block, or tagged !!str: text even where it looks like a number."""

    __slots__ = ()


class Fields(dict[str, "Value"]):
    """A mapping. `lines[i]` is the line of the i-th key in order, from 1."""

    __slots__ = ("lines",)
    lines: list[int]

    def line_of(self, path: Path) -> int:
        """Return the line of the field at `path`, or of the nearest one above it that exists (0: there is none)."""
        node: Value = self
        line = self.lines[0] if self.lines else 0
        for step in path:
            if isinstance(node, Fields) and isinstance(step, str) and step in node:
                line, node = node.lines[list(node).index(step)], node[step]
            elif isinstance(node, Items) and isinstance(step, int) and 0 <= step < len(node):
                line, node = node.lines[step], node[step]
            else:
                break
        return line


class Items(list["Value"]):
    """A list. `lines[i]` is the line of the i-th item, from 1."""

    __slots__ = ("lines",)
    lines: list[int]


Value: TypeAlias = str | Fields | Items | None
"""What may stand at a field; None is a plain null, or nothing."""
