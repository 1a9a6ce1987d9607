"""Who gets a host that several objects name. The one documented order, the same on every load. Pure.

What is visible comes before what is not; a Kubernetes Service before a ServiceEntry; our own namespace, then what is
exported to us by name, then what is public; then the older. The ServiceEntries of the namespace that wins are merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshdns.resolver.table.candidate import Candidate, Kind, Visibility


class Settled(NamedTuple):
    """A host, the candidates that are answered together, and those that gave way with the rule by which they did."""

    host: str
    winners: tuple[Candidate, ...]
    beaten: tuple[tuple[Candidate, str], ...] = ()


def settle(found: Iterable[Candidate], own_namespace: str) -> Iterator[Settled]:
    """Yield every host once, ordered by its first candidate."""
    by_host: dict[str, list[Candidate]] = {}
    for candidate in sorted(found, key=_order):
        by_host.setdefault(candidate.host, []).append(candidate)
    for host, claims in by_host.items():
        if len(claims) == 1:
            yield Settled(host, tuple(claims))
            continue
        first = claims[0]
        merged = [claim is first or _is_merged(first, claim) for claim in claims]
        winners = [claim for claim, wins in zip(claims, merged, strict=True) if wins]
        beaten = [
            (claim, _rule(first, claim, own_namespace)) for claim, wins in zip(claims, merged, strict=True) if not wins
        ]
        yield Settled(host, tuple(winners), tuple(beaten))


def _order(claim: Candidate) -> tuple[bool, Kind, Visibility, float, str, str]:
    meta = claim.meta
    created = math.inf if meta.created is None else meta.created
    hidden = claim.visibility is Visibility.HIDDEN
    return (hidden, claim.kind, claim.visibility, created, meta.namespace, meta.name)


def _is_merged(first: Candidate, claim: Candidate) -> bool:
    return (
        first.kind is claim.kind is Kind.ENTRY
        and first.meta.namespace == claim.meta.namespace
        and (first.visibility is Visibility.HIDDEN) is (claim.visibility is Visibility.HIDDEN)
    )


def _rule(first: Candidate, claim: Candidate, own_namespace: str) -> str:
    """Return the first point of the order in which the two differ, in words."""
    if claim.visibility is Visibility.HIDDEN:
        return f"it is not exported to namespace {own_namespace}"
    if first.kind is not claim.kind:
        if claim.kind is Kind.ENTRY:
            return "a Kubernetes Service comes before a ServiceEntry"
        return "a Service's full name comes before short names, and these before those of pods"
    if first.visibility is not claim.visibility:
        if first.visibility is Visibility.OWN:
            return f"our own namespace {own_namespace} comes first"
        return "what is exported to us by name comes before what is public"
    if first.meta.namespace != claim.meta.namespace:
        return "the older object's namespace has the host, and without an age the first by name"
    return "the same object stands in two documents"
