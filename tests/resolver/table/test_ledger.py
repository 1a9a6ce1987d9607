"""The leases on disk: they come back, they are never half written, and nothing in the file is trusted."""

from __future__ import annotations

import json
import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.table.ledger import Ledger
from meshdns.resolver.table.pools import Pools
from meshdns.resolver.table.tenure import LEDGER, Tenure

POOLS = Pools(IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48"))
ROW = {"host": "a.internal", "namespaces": ["default"], "v4": "240.240.0.1", "v6": "2001:2::1"}
TENURES = (Tenure("a.internal", ("default",), 1), Tenure("b.internal", ("n1", "n2"), 257, 1_700_000_000.25))

GOLDEN = """\
{"format": 1, "leases": [
{"host": "a.internal", "namespaces": ["default"], "v4": "240.240.0.1", "v6": "2001:2::1"},
{"host": "b.internal", "namespaces": ["n1", "n2"], "v4": "240.240.1.1", "v6": "2001:2::101", "freed_at": 1700000000.25}
]}
"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Tenures come back as they were, from a file that people can read; nothing else is left in the directory."""
    directory = tmp_path / "made" / "on demand"
    assert Ledger(directory).write(TENURES, POOLS) is None
    assert (directory / LEDGER).read_text() == GOLDEN
    held = Ledger(directory).read(POOLS)
    assert (set(held.tenures), held.reports) == (set(TENURES), ())
    assert os.listdir(directory) == [LEDGER]  # noqa: PTH208 - names alone


def test_nothing_to_keep(tmp_path: Path) -> None:
    """No directory, or an empty one: nothing is held and nothing is said."""
    assert Ledger(None).read(POOLS).reports == ()
    assert Ledger(None).write(TENURES, POOLS) is None
    assert Ledger(tmp_path / "new").read(POOLS).reports == ()


def test_an_unchanged_ledger_is_not_written_again(tmp_path: Path) -> None:
    """A reload that changes no lease writes nothing."""
    ledger = Ledger(tmp_path)
    ledger.write(TENURES, POOLS)
    before = (tmp_path / LEDGER).stat().st_ino
    ledger.write(TENURES, POOLS)
    assert (tmp_path / LEDGER).stat().st_ino == before
    ledger.write(TENURES[:1], POOLS)
    assert (tmp_path / LEDGER).stat().st_ino != before


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty", b"", "Expecting value: line 1 column 1 (char 0)"),
        ("cut", GOLDEN[:90].encode(), "Unterminated string"),
        ("not a mapping", b"[]", "not of format 1"),
        ("of a later format", b'{"format": 2, "leases": []}', "not of format 1"),
        ("without leases", b'{"format": 1}', "no list of leases"),
        ("not UTF-8", b'{"format": 1, "leases": ["\xff"]}', "'utf-8' codec can't decode byte 0xff"),
        ("deep", b"[" * 200_000, "too deeply nested"),
        ("a number without end", b"9" * 10_000, "Exceeds the limit"),
    ],
)
def test_a_damaged_file_is_kept_aside(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    """What cannot be understood is renamed and reported; the next write makes a new file."""
    (tmp_path / LEDGER).write_bytes(content)
    ledger = Ledger(tmp_path)
    held = ledger.read(POOLS)
    assert held.tenures == (), name
    (report,) = held.reports
    assert report.startswith(f"cannot understand {tmp_path / LEDGER}: {reason}")
    assert report.endswith("kept as leases.json.damaged; leases start anew")
    assert (tmp_path / "leases.json.damaged").read_bytes() == content
    ledger.write(TENURES, POOLS)
    assert set(Ledger(tmp_path).read(POOLS).tenures) == set(TENURES)


@pytest.mark.parametrize(
    "row",
    [
        None,
        "a.internal",
        {},
        {**ROW, "host": 1},
        {**ROW, "host": "*.internal"},
        {**ROW, "host": "A.internal"},
        {**ROW, "host": "a" * 254},
        {**ROW, "namespaces": "default"},
        {**ROW, "namespaces": [1]},
        {**ROW, "v4": "240.240.0.2"},
        {**ROW, "v4": "10.0.0.1"},
        {**ROW, "v4": 4042260481},
        {**ROW, "v6": None},
        {**ROW, "v4": "240.240.0.0", "v6": "2001:2::"},
        {**ROW, "v4": "240.240.255.255", "v6": "2001:2::ffff"},
        {**ROW, "freed_at": "yesterday"},
        {**ROW, "freed_at": True},
        {**ROW, "freed_at": -1},
        {**ROW, "freed_at": float("nan")},
        {**ROW, "freed_at": 10**400},
    ],
    ids=lambda row: json.dumps(row)[:60],
)
def test_a_row_that_cannot_be_is_left_out(tmp_path: Path, row: object) -> None:
    """A row with a wrong type, another pool's address or no pair is left out and counted; the others stand."""
    good = {"host": "good.internal", "namespaces": ["default"], "v4": "240.240.0.3", "v6": "2001:2::3"}
    (tmp_path / LEDGER).write_text(json.dumps({"format": 1, "leases": [row, good]}))
    held = Ledger(tmp_path).read(POOLS)
    assert held.tenures == (Tenure("good.internal", ("default",), 3),)
    assert held.reports == (f"cannot use 1 of 2 leases in {tmp_path / LEDGER}: damaged, or of other pools",)


def test_of_two_rows_for_one_address_the_first_stands(tmp_path: Path) -> None:
    """An address that stands twice is the first one's."""
    rows = [ROW, {**ROW, "host": "b.internal"}]
    (tmp_path / LEDGER).write_text(json.dumps({"format": 1, "leases": rows}))
    assert Ledger(tmp_path).read(POOLS).tenures == (Tenure("a.internal", ("default",), 1),)


def test_one_warning_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A directory that cannot be written is told once, not with every reload, and again after it worked in between."""
    blocked = tmp_path / "state"
    blocked.write_text("a file stands where the directory should be")
    ledger = Ledger(blocked)
    assert ledger.write(TENURES, POOLS) == (
        f"cannot write {blocked / LEDGER}: File exists: "
        "leases are as stable as the manifests, and start anew with the next start"
    )
    assert ledger.write(TENURES[:1], POOLS) is None
    blocked.unlink()
    assert ledger.write(TENURES, POOLS) is None
    assert set(Ledger(blocked).read(POOLS).tenures) == set(TENURES)


def test_an_unreadable_path_is_reported(tmp_path: Path) -> None:
    """A ledger that is a directory is reported and passed over."""
    (tmp_path / LEDGER).mkdir()
    assert Ledger(tmp_path).read(POOLS).reports == (
        f"cannot read {tmp_path / LEDGER}: Is a directory: leases start anew",
    )


json_st = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["240.240.0.1"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ROW, "format", "leases"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.one_of(st.binary(max_size=64), json_st.map(lambda value: json.dumps({"format": 1, "leases": [value]}).encode()))
)
def test_any_content_is_survived(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever the file holds, reading it gives tenures of these pools and reports, and never fails."""
    directory = tmp_path_factory.mktemp("state")
    (directory / LEDGER).write_bytes(content)
    held = Ledger(directory).read(POOLS)
    assert all(POOLS.may_lease(tenure.offset) for tenure in held.tenures)
