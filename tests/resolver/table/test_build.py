"""What the table keeps beside its answers: why, from where, over whom, and what the relay needs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from ipaddress import ip_address
from random import Random

import pytest
from tables import POOLS, WORLD, addresses, entry, scope, service, table_of, workload

from meshdns.resolver.source.entry import Endpoint, Entry
from meshdns.resolver.table.allocate import allocate
from meshdns.resolver.table.build import Assembler, Row, Table, build, common, rows
from meshdns.resolver.table.names import to_key
from meshdns.resolver.table.packed import packed
from meshdns.resolver.table.policy import TTL_MOST_S, policy


def row_of(table: Table, host: str) -> Row:
    (found,) = [row for row in table.rows if row.host == host]
    return found


REASONS: dict[str, str] = {
    "cidr.internal": "its addresses are CIDR blocks only: add a plain address",
    "none.internal": "resolution NONE without addresses: add addresses, or use resolution STATIC or DNS",
    "optout.internal": 'its label networking.istio.io/enable-autoallocate-ip is "false", and it has no addresses',
    "dynamic.internal": "resolution DYNAMIC_DNS gets no lease: add addresses",
    "unchosen.internal": "no WorkloadEntry with an IP address matches its selector",
    "*.auto.example": "a wildcard gets no lease: add addresses",
    "private.internal": "it is not exported to namespace default",
    "nobody.internal": "it is not exported to namespace default",
    "tothem.internal": "it is not exported to namespace default",
    "empty.default.svc.cluster.local": "it is headless and has no ready endpoint",
}


@pytest.mark.parametrize(("host", "reason"), REASONS.items(), ids=REASONS.keys())
def test_why_a_host_is_forwarded(host: str, reason: str) -> None:
    """A host that is not answered keeps the reason, and where it stands."""
    table = table_of(*WORLD)
    row = row_of(table, host)
    assert row.unanswered == reason
    assert str(row.account.parts[0].source).endswith("(entries.yaml:1)")
    assert row.key not in table.names


SMALL_REASONS: dict[str, tuple[Entry, str]] = {
    "no auto-allocation": (
        entry("a.test", resolution="DNS"),
        "it has no lease: auto-allocation is off, or the pool is used up",
    ),
    "the star": (entry("*", "192.0.2.1"), "it is no host name that can be answered"),
    "half a wildcard": (entry("*a.test", "192.0.2.1"), "it is no host name that can be answered"),
    "a long label": (entry("a" * 64 + ".test", "192.0.2.1"), "it is no host name that can be answered"),
    "no target": (service("a", external_name="a..b"), "its externalName 'a..b' is no name"),
}


@pytest.mark.parametrize(("claim", "reason"), SMALL_REASONS.values(), ids=SMALL_REASONS.keys())
def test_why_alone(claim: Entry, reason: str) -> None:
    """So does one that cannot be."""
    (row,) = table_of(claim, auto_allocate=False).rows
    assert row.unanswered == reason


OLDER = "the older object's namespace has the host, and without an age the first by name"
NONE = "resolution NONE without addresses: add addresses, or use resolution STATIC or DNS"

BEATEN: dict[str, tuple[Callable[[], Table], str, list[str]]] = {
    "Service over entry": (
        lambda: table_of(
            service("web", "10.0.0.1"), entry("web.default.svc.cluster.local", "192.0.2.1", name="e", line=9)
        ),
        "web.default.svc.cluster.local",
        ["ServiceEntry default/e (entries.yaml:9): a Kubernetes Service comes before a ServiceEntry"],
    ),
    "short name over entry": (
        lambda: table_of(service("web", "10.0.0.1"), entry("web.default", "192.0.2.1", name="e", line=9)),
        "web.default.svc.cluster.local",
        ["ServiceEntry default/e (entries.yaml:9): a Kubernetes Service comes before a ServiceEntry"],
    ),
    "own namespace": (
        lambda: table_of(entry("a.test", "192.0.2.1"), entry("a.test", "192.0.2.2", name="e", namespace="x", line=9)),
        "a.test",
        ["ServiceEntry x/e (entries.yaml:9): our own namespace default comes first"],
    ),
    "named": (
        lambda: table_of(
            entry("a.test", "192.0.2.1", namespace="y", export_to=("default",)),
            entry("a.test", "192.0.2.2", name="e", namespace="x", line=9),
        ),
        "a.test",
        ["ServiceEntry x/e (entries.yaml:9): what is exported to us by name comes before what is public"],
    ),
    "older": (
        lambda: table_of(
            entry("a.test", "192.0.2.1", namespace="y", created=1.0),
            entry("a.test", "192.0.2.2", name="e", namespace="x", line=9, created=2.0),
        ),
        "a.test",
        [f"ServiceEntry x/e (entries.yaml:9): {OLDER}"],
    ),
    "hidden": (
        lambda: table_of(
            entry("a.test", "192.0.2.1"),
            entry("a.test", "192.0.2.2", name="e", namespace="x", line=9, export_to=(".",)),
        ),
        "a.test",
        ["ServiceEntry x/e (entries.yaml:9): it is not exported to namespace default"],
    ),
    "nobody": (lambda: table_of(entry("a.test", "192.0.2.1", name="1"), entry("a.test", name="2")), "a.test", []),
}


@pytest.mark.parametrize(("make", "host", "expected"), BEATEN.values(), ids=BEATEN.keys())
def test_who_gives_way(make: Callable[[], Table], host: str, expected: list[str]) -> None:
    """A host knows whom it beat, and by which rule."""
    assert [f"{loser.source}: {loser.rule}" for loser in row_of(make(), host).account.beaten] == expected


def test_notes() -> None:
    """What is served otherwise than written is noted."""
    table = table_of(*WORLD, entry("a.test", "192.0.2.1", name="1"), entry("a.test", name="2"))
    assert row_of(table, "mixed.internal").account.notes == ("CIDR blocks are not answered: 203.0.113.0/24",)
    assert row_of(table, "badttl.internal").account.notes == (
        f"meshdns.io/ttl 'soon' is no number of seconds from 0 to {TTL_MOST_S}",
    )
    assert row_of(table, "a.test").account.notes == (
        f"ServiceEntry default/2 (entries.yaml:1) adds no address: {NONE}",
    )


POLICIES: dict[str, tuple[dict[str, str], tuple[int | None, set[int] | None, bool | None]]] = {
    "none": ({}, (None, None, None)),
    "others": ({"a": "b"}, (None, None, None)),
    "ttl": ({"meshdns.io/ttl": "60"}, (60, None, None)),
    "ttl most": ({"meshdns.io/ttl": str(TTL_MOST_S)}, (TTL_MOST_S, None, None)),
    "ttl more": ({"meshdns.io/ttl": str(TTL_MOST_S + 1)}, (None, None, None)),
    "ttl negative": ({"meshdns.io/ttl": "-1"}, (None, None, None)),
    "ttl in another script": ({"meshdns.io/ttl": "٣"}, (None, None, None)),
    "ttl of a thousand digits": ({"meshdns.io/ttl": "9" * 5000}, (None, None, None)),
    "families": ({"meshdns.io/families": "both"}, (None, {4, 6}, None)),
    "families misspelt": ({"meshdns.io/families": "IPv4"}, (None, None, None)),
    "forward": ({"meshdns.io/other-types": "forward"}, (None, None, True)),
    "nodata": ({"meshdns.io/other-types": "nodata"}, (None, None, False)),
}


@pytest.mark.parametrize(("annotations", "expected"), POLICIES.values(), ids=POLICIES.keys())
def test_policy(annotations: dict[str, str], expected: tuple[int | None, set[int] | None, bool | None]) -> None:
    """Annotations that are understood count; others change nothing and leave a note."""
    found = policy(annotations)
    assert (found.ttl_s, found.families, found.forward_other_types) == expected
    ours = [key for key in annotations if key.startswith("meshdns.io/")]
    assert bool(found.notes) is (bool(ours) and expected == (None, None, None))


def test_what_the_relay_needs() -> None:
    """A leased host keeps its addresses and, entry by entry, ports, endpoints and weights."""
    first = entry("a.test", resolution="STATIC", name="1")
    endpoint = Endpoint("192.0.2.1", {"http": 8080}, 3)
    first = first._replace(endpoints=(endpoint,))
    second = entry("a.test", resolution="STATIC", ports="db/TCP/5432", selector={"app": "db"}, name="2")
    table = table_of(first, second, workload("192.0.2.9", {"app": "db"}))
    row = row_of(table, "a.test")
    assert row.lease == (POOLS.v4[1].packed, POOLS.v6[1].packed)
    assert table.addresses[POOLS.v4[1].packed].row == table.addresses[POOLS.v6[1].packed].row == row
    assert [[tuple(port) for port in part.ports] for part in row.account.parts] == [
        [(80, "http", "HTTP", None)],
        [(5432, "db", "TCP", None)],
    ]
    assert [[tuple(each) for each in part.endpoints] for part in row.account.parts] == [
        [("192.0.2.1", 3, (("http", 8080),))],
        [("192.0.2.9", 1, ())],
    ]


def test_status_addresses_of_the_pool_are_leases() -> None:
    """What Istio's controller gave from the pool stands for endpoints as our own leases do; other addresses do not."""
    status = addresses("240.240.0.9 2001:2::77 192.0.2.1")
    row = row_of(table_of(entry("a.test", resolution="DNS", status_addresses={"a.test": status})), "a.test")
    assert row.lease == (ip_address("240.240.0.9").packed, ip_address("2001:2::77").packed)
    assert len(row.a) == len(row.lease_a) == 16
    assert len(row.lease_aaaa) == 28


def test_rows_are_plain() -> None:
    """Rows hold nothing but numbers, text, bytes and tuples: they may be written by any encoder."""

    def is_plain(value: object) -> bool:
        if isinstance(value, tuple):
            return all(is_plain(item) for item in value)
        return value is None or type(value) in {int, str, bytes, bool}

    found = list(rows(WORLD, allocate(WORLD, POOLS, (), 0.0).leases, scope()))
    assert all(is_plain(row) for row in (*found, common(scope())))
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own bytes
    assert json.dumps(found, default=bytes.hex)


def test_a_table_in_pieces_is_the_same() -> None:
    """Rows taken over a few at a time make the table that they make at once."""
    leases = allocate(WORLD, POOLS, (), 0.0).leases
    whole = build(WORLD, leases, scope())
    found = list(rows(WORLD, leases, scope()))
    assembler = Assembler(common(scope()))
    for start in range(0, len(found), 7):
        assembler.add(map(packed, found[start : start + 7]))
    pieces = assembler.finish()
    assert list(pieces.rows) == list(whole.rows)
    assert pieces.names.keys() == whole.names.keys()
    assert pieces.wildcards.keys() == whole.wildcards.keys()
    assert pieces.addresses.keys() == whole.addresses.keys()


def test_order_does_not_matter() -> None:
    """The table is the same whatever the order of the objects: objects of one name and age aside, it is settled."""
    entries: list[Entry] = [
        entry("a.test", "192.0.2.1", name="1", namespace="x", created=2.0),
        entry("a.test", "192.0.2.2", name="2", namespace="x", created=2.0),
        entry("a.test", "192.0.2.3", name="3", namespace="y", created=2.0),
        entry("b.test *.b.test", "192.0.2.4", name="4", namespace="z", export_to=("default",)),
        entry("b.test", "192.0.2.5", name="5"),
        service("a", "10.0.0.1", namespace="test"),
        service("b", "10.0.0.2", namespace="test"),
    ]
    expected = list(table_of(*entries).rows)
    random = Random(1)
    for _ in range(20):
        random.shuffle(entries)
        assert list(table_of(*entries).rows) == expected


def test_a_host_has_at_most_so_many_addresses() -> None:
    """More addresses than fit a TCP message are left out."""
    many = " ".join(f"2001:db8::{n:x}" for n in range(1, 2500))
    assert len(row_of(table_of(entry("a.test", many)), "a.test").aaaa) == 2000 * 28


def test_find() -> None:
    """A name is found with what `explain` tells: which name, and whether by a wildcard or behind a suffix."""
    table = table_of(*WORLD)

    def found(text: str) -> tuple[str, int, int, bool] | None:
        key = to_key(text)
        assert key is not None
        starts = tuple(n for n in range(len(key) - 1) if n == 0 or key[n] < 0x20)
        match = table.find(key, starts)
        return None if match is None else (match.name.row.host, match.stem, match.service, match.wildcard)

    assert found("address.internal") == ("address.internal", 17, 0, False)
    assert found("address.internal.cluster.local") == ("address.internal", 17, 0, False)
    assert found("_http._tcp.address.internal") == ("address.internal", 28, 11, False)
    assert found("x.wild.example") == ("*.wild.example", 15, 0, True)
    assert found("www.example.com") is None
