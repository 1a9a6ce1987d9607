"""What `explain` tells of a name costs whoever asks for it, and no lookup."""

from __future__ import annotations

import asyncio

import tables

from meshdns.resolver.serve.explain import COMPARED_PER_TURN, nearest
from meshdns.resolver.table.live import Table

HOSTS = 500


def of_many_hosts() -> Table:
    """Build a table of so many hosts that comparing with them takes a while."""
    return tables.table_of(*[tables.entry(f"host-{number:03d}.internal", "192.0.2.1") for number in range(HOSTS)])


async def compared(table: Table, text: str) -> tuple[list[str], int]:
    """Return what is nearest, and how many turns others had meanwhile."""
    search = asyncio.create_task(nearest(table, text))
    turns = 0
    while not search.done():
        turns += 1
        await asyncio.sleep(0)
    return search.result(), turns


def test_the_loop_turns_while_a_name_is_compared() -> None:
    """The nearest of all hosts are found, wherever they stand, and a few are compared in each turn of the loop."""
    found, turns = asyncio.run(compared(of_many_hosts(), "Host-499.internl."))
    assert found[0] == "host-499.internal"
    assert len(found) == 3
    assert turns >= HOSTS / COMPARED_PER_TURN
