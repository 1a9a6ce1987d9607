"""In which order endpoints are tried: by weight, rested ones first, the families of a name by turns.

Never here: sockets, the clock (times come in, in seconds of one monotonic clock), the source of chance (`draw` gives
numbers in [0, 1)). Weighted order without replacement: Efraimidis and Spirakis, "Weighted random sampling with a
reservoir", 2006. Families by turns: RFC 8305, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import chain, zip_longest
from typing import Final, TypeVar

from meshdns.relay.route import Destination

T = TypeVar("T")

RESTING_MAX: Final = 4096
"""Endpoints remembered as failed; the one that failed first is forgotten first."""


def weighted(destinations: Sequence[Destination], draw: Callable[[], float]) -> list[Destination]:
    """All destinations in the order of a draw: each is first as often as its share of the weights."""
    if len(destinations) == 1:
        return list(destinations)
    drawn = [(-math.log(1.0 - draw()) / max(one.weight, 1), index) for index, one in enumerate(destinations)]
    drawn.sort()
    return [destinations[index] for _, index in drawn]


def by_turns(first: Sequence[T], second: Sequence[T]) -> list[T]:
    """One of each in turn, `first` beginning, until both are used up."""
    missing = object()
    pairs = zip_longest(first, second, fillvalue=missing)
    return [one for one in chain.from_iterable(pairs) if one is not missing]  # type: ignore[misc]


class Rest:
    """Which endpoints failed lately. They go to the end of the order, and are tried all the same if nothing else is."""

    __slots__ = ("_rest_s", "_until")

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._until: dict[Hashable, float] = {}

    def failed(self, key: Hashable, now: float) -> None:
        """Let it rest from now on."""
        self._until.pop(key, None)
        if len(self._until) >= RESTING_MAX:
            del self._until[next(iter(self._until))]
        self._until[key] = now + self._rest_s

    def worked(self, key: Hashable) -> None:
        """End its rest: it answered."""
        if self._until:
            self._until.pop(key, None)

    def left(self, key: Hashable, now: float) -> float:
        """Seconds that it still rests; 0.0 when it does not."""
        until = self._until.get(key)
        if until is None:
            return 0.0
        if until <= now:
            del self._until[key]
            return 0.0
        return until - now

    def rested_first(self, items: Sequence[T], resting: Callable[[T], bool]) -> list[T]:
        """Move the items that rest behind the others and keep the order otherwise."""
        if not self._until:
            return list(items)
        asleep = [resting(item) for item in items]
        return [item for item, rests in zip(items, asleep, strict=True) if not rests] + [
            item for item, rests in zip(items, asleep, strict=True) if rests
        ]
