"""What `explain` tells of a name is why it answers so; it costs whoever asks for it, and no lookup."""

from __future__ import annotations

import asyncio
import struct

import pytest
import tables
from tables import WORLD, entry, table_of

from meshdns.resolver.query.own import AAAA, HTTPS, TXT, A
from meshdns.resolver.serve.explain import COMPARED_PER_TURN, explain_name, nearest, why_nothing
from meshdns.resolver.table.live import Table
from meshdns.resolver.table.names import to_key

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


MX = 15
CLOSED = "nobody speaks IPv6 here"
ONE_FAMILY = entry(
    "only4.internal", resolution="STATIC", endpoints="192.0.2.9", annotations={"meshdns.io/families": "ipv4"}
)
FORWARDING = entry("mail.internal", "192.0.2.10", annotations={"meshdns.io/other-types": "forward"})


@pytest.mark.parametrize(
    ("name", "qtype", "reason"),
    [
        ("auto.internal", AAAA, "its lease 2001:2::1 is not answered: nobody speaks IPv6 here"),
        ("auto.internal.default.svc.cluster.local", AAAA, "its lease 2001:2::1 is not answered: nobody"),
        ("only4.internal", AAAA, "is not answered: its annotation meshdns.io/families says otherwise"),
        ("address.internal", AAAA, "it has no IPv6 address"),
        ("six.internal", A, "it has no IPv4 address"),
        ("x.wild.example", AAAA, "it has no IPv6 address"),
        ("address.internal", HTTPS, "a name of ours has no such record, and its owner is not asked for one"),
        (
            "address.internal",
            MX,
            "names of ours have addresses and ports only: --other-types forward",
        ),
        ("_http._tcp.address.internal", TXT, "a port has SRV records only"),
    ],
)
def test_nothing_has_its_reason(name: str, qtype: int, reason: str) -> None:
    """For each row of the documented answers that is without a record, `explain` has the reason that holds."""
    table = table_of(*WORLD, ONE_FAMILY, FORWARDING)
    key = to_key(name)
    assert key is not None
    assert reason in why_nothing(table, key, struct.pack("!HH", qtype, 1), CLOSED)


def test_a_wildcard_that_leaves_a_name_alone_is_named() -> None:
    """Where a wildcard over the cluster's own names is passed over, that is the reason, not that there is no entry."""
    table = table_of(entry("*.local", "192.0.2.1"))
    found = explain_name(table, "www.example.default.svc.cluster.local")
    assert (found["ours"], found["reason"]) == (False, "*.local leaves names under a search suffix alone")
    assert explain_name(table, "printer.local")["match"] == "wildcard"
    assert explain_name(table, "www.example")["reason"] == "no entry has this host"
