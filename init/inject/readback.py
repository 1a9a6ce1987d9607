"""What was printed is read again, by the other parser: whatever is not ours must say what it said before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshdns.init.inject.pod import is_ours
from meshdns.init.inject.values import absent

_FIELDS: Final = frozenset({"initContainers", "containers", "volumes"})


def without_ours(node: Any) -> Any:  # noqa: ANN401 - any part of a document
    """Return a copy of a document that lacks our parts, and the lists that hold nothing else."""
    if isinstance(node, Mapping):
        fields = {key: _list_without_ours(key, child) if key in _FIELDS else child for key, child in node.items()}
        return {
            key: without_ours(child)
            for key, child in fields.items()
            if key not in _FIELDS or not (absent(child) or child == [])
        }
    return [without_ours(child) for child in node] if isinstance(node, list) else node


def _list_without_ours(field: str, node: Any) -> Any:  # noqa: ANN401
    if not isinstance(node, list):
        return node
    return [child for child in node if not (isinstance(child, Mapping) and is_ours(field, child))]
