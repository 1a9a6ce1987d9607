"""What every dialect's backend can do, and which one an installation uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

from meshdns.capture.dialects.nft.backend import NftBackend
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.policy.ruleset import Rule, RuleSet


class Backend(Protocol):
    """One way to tell the kernel; works on the network namespace of the calling thread."""

    name: str
    comment_length: int
    """Characters that one comment in the kernel can hold."""

    def read(self) -> Observed:
        """Return what of ours is there; creates nothing."""

    def visible(self, rules: RuleSet) -> RuleSet:
        """Return `rules` as `read` would give them back."""

    def text(self, rule: Rule) -> str:
        """Return a rule in the dialect's words, for people."""

    def replace(self, rules: RuleSet, about: Sequence[str], held: Observed, seed_s: float) -> None:
        """Put `rules` in the place of `held`: all of it or, with an ApplyError that names the rule, nothing."""

    def remove(self) -> None:
        """Remove everything of ours; no error where there is nothing."""


def _iptables(variant: Literal["legacy", "nft"]) -> Backend:
    # Imported late: nft is what nearly everybody has, and half of an install's time is imports.
    from meshdns.capture.dialects.iptables.backend import iptables_backend  # noqa: PLC0415

    return iptables_backend(variant)


def _libiptc() -> Backend:
    from meshdns.capture.dialects.libiptc.backend import LibiptcBackend  # noqa: PLC0415 - as above

    return LibiptcBackend()


BACKENDS: Final[Mapping[str, Callable[[], Backend]]] = {
    "nft": NftBackend,
    "iptables-nft": lambda: _iptables("nft"),
    "iptables-legacy": lambda: _iptables("legacy"),
    "libiptc": _libiptc,
}
AUTO: Final = "auto"


def choose(name: str) -> tuple[Backend, str]:
    """Return the backend of that name, or for `auto` the first in order of preference, and why it was chosen."""
    if name == AUTO:
        first = next(iter(BACKENDS))
        return BACKENDS[first](), "first choice of auto"
    return BACKENDS[name](), "asked for"
