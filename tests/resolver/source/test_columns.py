"""Typed values as JSON columns: what is written comes back, and nothing that a stranger writes gets any further."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.source.columns import read, written
from meshdns.resolver.source.entry import Endpoint, EndpointSlice, Entry, Meta, Origin, ServiceEntry, WorkloadEntry
from meshdns.resolver.source.problem import Level, Problem
from meshdns.resolver.table.row import Row


class Sort(StrEnum):
    ONE = "one"
    OTHER = "other"


class Small(NamedTuple):
    text: str
    data: bytes
    number: int | None


@dataclass(frozen=True, slots=True)
class Everything:
    """A field of every shape there is."""

    smalls: tuple[Small, ...]
    pair: tuple[str, bool]
    sort: Sort
    ratio: float
    labels: Mapping[str, int]
    address: IPv4Address | IPv6Address
    block: IPv4Network | IPv6Network | None
    nested: tuple[tuple[str, ...], ...] = field(default=())


TEXT = st.text(max_size=5)
SMALL = st.builds(Small, TEXT, st.binary(max_size=5), st.none() | st.integers())
BLOCKS = st.none() | st.ip_addresses().map(
    lambda address: IPv4Network(address) if address.version == 4 else IPv6Network(address)
)
EVERYTHING = st.builds(
    Everything,
    st.lists(SMALL, max_size=3).map(tuple),
    st.tuples(TEXT, st.booleans()),
    st.sampled_from(Sort),
    st.floats(allow_nan=False),
    st.dictionaries(TEXT, st.integers(), max_size=3),
    st.ip_addresses(),
    BLOCKS,
    st.lists(st.lists(TEXT, max_size=2).map(tuple), max_size=3).map(tuple),
)


@given(st.lists(EVERYTHING, max_size=12))
def test_what_is_written_is_read(values: list[Everything]) -> None:
    """Any values come back as they were, through JSON."""
    assert read(Everything, json.loads(json.dumps(written(Everything, values)))) == values


@given(st.lists(st.sampled_from([Small("a", b"\0", None), Small("b", b"", 1)]), min_size=20, max_size=40))
def test_values_that_repeat_are_read_as_one(values: list[Small]) -> None:
    """Equal texts and bytes of a column become the same object: ten thousand rows name few namespaces and files."""
    found = read(Small, written(Small, values))
    assert found == values
    assert len({id(each.text) for each in found}) <= 2


@pytest.mark.parametrize("kind", [Row, Entry, Problem, Everything])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
        lambda inner: (
            st.lists(inner, max_size=9)
            | st.dictionaries(TEXT | st.sampled_from(["different", "which"]), inner, max_size=3)
        ),
    )
)
def test_any_other_json_is_refused(kind: Any, found: object) -> None:  # noqa: ANN401
    """Whatever stands there: values of the type, or ValueError; no other exception."""
    try:
        values = read(kind, found)
    except ValueError:
        return
    assert values == []


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        (int, [True]),
        (float, [1]),
        (bool, [1]),
        (str, [None]),
        (bytes, ["0g"]),
        (str, {"different": ["a"], "which": [1]}),
        (str, {"different": ["a"], "which": [-1]}),
        (str, {"different": ["a"]}),
        (tuple[str, ...], [[3], ["a", "b"]]),
        (tuple[str, ...], [[3, -1], ["a", "b"]]),
        (tuple[str, ...], [[10**30], ["a", "b"]]),
        (tuple[str, str], [["a"], []]),
        (IPv4Address, [2**32]),
        (IPv6Address, [-1]),
        (IPv4Network, [[1, 8]]),
        (IPv4Network, [[0, 33]]),
        (int | None, [[0, 2], [[1], []]]),
        (int | None, [[0, 0], [[1], [None]]]),
        (Sort, ["third"]),
        (Level, ["fatal"]),
        (Small, [["a"], ["00"], [[0], [[1], []]], []]),
        (Small, [["a", "b"], ["00"], [[0], [[1], []]]]),
    ],
)
def test_nothing_passes_for_something_else(kind: Any, column: object) -> None:  # noqa: ANN401
    """No number for a truth, no text for a name of ours, no count that does not add up."""
    with pytest.raises(ValueError, match=r"."):
        read(kind, column)


def test_every_kind_of_entry_survives() -> None:
    """The values of manifests come back, whichever kinds stand side by side."""
    meta = Meta(Origin("a.yaml", 3), "default", "a", 1.5, {"app": "a"}, {})
    entries: list[Entry] = [
        ServiceEntry(meta, ("a.x",), (IPv4Address("192.0.2.1"), IPv6Network("2001:db8::/32")), selector={"a": "b"}),
        WorkloadEntry(meta, Endpoint("192.0.2.2", {"http": 80}, 7)),
        EndpointSlice(meta, "s"),
    ]
    assert read(Entry, json.loads(json.dumps(written(Entry, entries)))) == entries
