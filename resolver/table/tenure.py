"""Who holds which addresses, as the ledger has it. `allocate` decides, `ledger` keeps it."""

from __future__ import annotations

from typing import Final, NamedTuple

LEDGER: Final = "leases.json"
"""The ledger's name in the state directory."""


class Tenure(NamedTuple):
    """The pair at `offset` is `host`'s, or was until `freed_at` (seconds since the epoch)."""

    host: str
    namespaces: tuple[str, ...]
    offset: int
    freed_at: float | None = None
