"""Rows as bytes: what is packed comes out again, and bytes that nobody packed do no harm."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import POOLS, WORLD, scope, table_of

from meshdns.resolver.table import packed
from meshdns.resolver.table.allocate import allocate
from meshdns.resolver.table.build import rows
from meshdns.resolver.table.live import Name
from meshdns.resolver.table.row import Account, Beaten, EndpointRow, Part, PortRow, Row, Source, account_of

ROWS = list(rows(WORLD, allocate(WORLD, POOLS, (), 0.0).leases, scope()))
HEAD_BYTES = 57
TEXT = st.text(max_size=5)
SOURCE = st.builds(Source, TEXT, TEXT, TEXT, TEXT, st.integers())
PORT = st.builds(PortRow, st.integers(), TEXT, TEXT, st.none() | st.integers())
ENDPOINT = st.builds(EndpointRow, TEXT, st.integers(), st.lists(st.tuples(TEXT, st.integers()), max_size=2).map(tuple))
PART = st.builds(
    Part,
    SOURCE,
    TEXT,
    st.lists(PORT, max_size=2).map(tuple),
    st.lists(ENDPOINT, max_size=2).map(tuple),
    st.lists(TEXT, max_size=2).map(tuple),
)
ACCOUNT = st.builds(
    Account,
    st.lists(PART, max_size=2).map(tuple),
    st.lists(st.builds(Beaten, SOURCE, TEXT), max_size=2).map(tuple),
    st.lists(TEXT, max_size=2).map(tuple),
)


@pytest.mark.parametrize("row", ROWS, ids=[row.host for row in ROWS])
def test_a_row_comes_out_as_it_went_in(row: Row) -> None:
    """Every kind of row there is survives, passes the check, and stands where its heading says."""
    data = packed.packed(row)
    packed.check([data])
    assert packed.unpacked(data) == row
    flags, key = packed.heading(data)
    assert (key, packed.pointers(data)) == (row.key, () if row.unanswered else row.pointers)
    assert bool(flags & packed.UNANSWERED) is bool(row.unanswered)
    assert packed.addresses(data) == (None if row.cname else (row.a, row.aaaa, row.lease_a, row.lease_aaaa))


@given(ACCOUNT)
def test_an_account_is_read_as_it_was_told(account: Account) -> None:
    """JSON and back, surrogates in paths included."""
    assert account_of(account.text()) == account


def damaged(row: Row, place: int, byte: int) -> bytes:
    data = bytearray(packed.packed(row))
    data[place % len(data)] = byte
    return bytes(data)


@given(
    st.binary(min_size=HEAD_BYTES, max_size=200)
    | st.builds(damaged, st.sampled_from(ROWS), st.integers(0, 1000), st.integers(0, 255))
)
def test_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    """Whatever lies on the shelf under a good digest: no answer raises; only the account may, and then ValueError."""
    row = packed.unpacked(data)
    packed.heading(data)
    packed.pointers(data)
    packed.addresses(data)
    with contextlib.suppress(ValueError):
        packed.check([data])
    with contextlib.suppress(ValueError):
        assert row.account


@pytest.mark.parametrize("size", [0, 1, HEAD_BYTES - 1])
def test_less_than_a_head_is_refused(size: int) -> None:
    """So short a row cannot be read, and the check says so before anybody tries."""
    with pytest.raises(ValueError, match="a row that is none"):
        packed.check([packed.packed(ROWS[0]), bytes(size)])


def test_the_account_changes_no_answer() -> None:
    """What is told about a host is no part of what it answers; its time to live is."""
    row = ROWS[0]
    same = packed.packed(row._replace(told=b'[[],[],["moved"]]'))
    other = packed.packed(row._replace(ttl_s=row.ttl_s + 1))
    assert packed.answered_part(same) == packed.answered_part(packed.packed(row)) != packed.answered_part(other)


def test_answers_are_the_same_made_at_once_or_when_asked_for() -> None:
    """A name that is prepared has what one has that was asked first; any other attribute is none."""
    table = table_of(*WORLD)
    asked = {key: (name.a, name.aaaa) for key, name in table.names.items()}
    for _ in table.prepare():
        pass
    for key, name in table.names.items():
        fresh = Name(name.packed, table.nodata)
        fresh.prepare()
        for before, after in zip(asked[key], (fresh.a, fresh.aaaa), strict=True):
            assert (before is None) is (after is None)
            assert before is None or after is None or before._replace(starts=None) == after._replace(starts=None)
        assert not hasattr(name, "nothing")
