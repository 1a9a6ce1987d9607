"""Whose an address of ours is: what PTR, `explain` and the relay ask for, and nobody who looks a name up.

So nothing of it is made while names are taken over, but in idle turns afterwards, or when it is first asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from meshdns.resolver.table import packed

if TYPE_CHECKING:
    from meshdns.resolver.table.live import Name

PLACED_PER_TURN: Final = 500
"""Names whose addresses are placed in one turn of the loop, in half a millisecond."""


class Reverse:
    """The names by their packed addresses; of several names of one address the first has it."""

    __slots__ = ("_hosts", "_names", "_sorted")

    def __init__(self, hosts: Sequence[Name]) -> None:
        """Take the hosts in order."""
        self._hosts = hosts
        self._names: dict[bytes, Name] | None = None
        self._sorted: tuple[list[bytes], ...] = ()

    @property
    def names(self) -> dict[bytes, Name]:
        """All of them, made now if `prepare` is not done yet."""
        if self._names is None:
            self._names = {}
            for _ in self._place(self._names):
                pass
        return self._names

    def prepare(self) -> Iterator[None]:
        """Make them, some in each step."""
        if self._names is None:
            names: dict[bytes, Name] = {}
            yield from self._place(names)
            self._names = names

    def has_below(self, digits: str) -> bool:
        """Tell whether an address in use starts with these digits: then its reverse name exists (RFC 8020)."""
        if not self._sorted:
            sizes: dict[int, list[bytes]] = {}
            for address in self.names:
                sizes.setdefault(len(address), []).append(address)
            self._sorted = tuple(map(sorted, sizes.values()))
        first = bytes.fromhex(digits + "0" * (len(digits) % 2))
        for addresses in self._sorted:
            at = bisect_left(addresses, first)
            if at < len(addresses) and addresses[at].hex().startswith(digits):
                return True
        return False

    def _place(self, names: dict[bytes, Name]) -> Iterator[None]:
        for number, name in enumerate(self._hosts):
            for address in packed.pointers(name.packed):
                names.setdefault(address, name)
            if number % PLACED_PER_TURN == 0:
                yield
