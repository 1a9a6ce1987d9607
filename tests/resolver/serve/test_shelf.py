"""A start with unchanged files, from what the last run kept: what is taken over, what is not, and what damage does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from resolving import ADDRESS_AND_AUTO, Running, running

from meshdns.init.version import VERSION
from meshdns.resolver.serve.kept_files import KeptFiles
from meshdns.resolver.serve.kept_table import NAME, kept_table
from meshdns.resolver.serve.reload import Reloader
from meshdns.resolver.serve.settings import TableSettings
from meshdns.resolver.serve.shelf import Shelf
from meshdns.resolver.source.entry import ServiceEntry
from meshdns.resolver.source.listing import digest
from meshdns.resolver.source.read import Outcome, read
from meshdns.resolver.table.live import Table
from meshdns.resolver.table.packed import packed, unpacked
from meshdns.resolver.table.pools import Pools

LATE = ADDRESS_AND_AUTO.split("---")[1].replace("auto", "late")
TAKEN_OVER = "nothing has changed since the table"


class Place:
    """A directory of manifests, and a home with a state directory in which resolvers run one after the other."""

    def __init__(self, tmp_path: Path) -> None:
        self.entries = tmp_path / "entries"
        self.home = tmp_path / "home"
        self.state = self.home / "state"
        self.entries.mkdir()
        self.write("a", ADDRESS_AND_AUTO)

    def write(self, name: str, text: str) -> None:
        (self.entries / f"{name}.yaml").write_text(text)

    @contextlib.contextmanager
    def resolver(self, *options: str) -> Iterator[Running]:
        with running(self.entries, self.home, "--state", str(self.state), *options) as one:
            yield one

    def load(self, **settings: object) -> tuple[Table, bool]:
        """Load once, as a start does; return the table, and whether it is the one that was kept."""
        return asyncio.run(self._load(self.settings()._replace(**settings)))  # type: ignore[arg-type]

    async def _load(self, settings: TableSettings) -> tuple[Table, bool]:
        tables: list[Table] = []
        reloader = Reloader(settings, tables.append)
        reloader.trigger(())
        await reloader.settle()
        assert not reloader.counters.failures
        return tables[0], reloader.counters.resumed

    def settings(self) -> TableSettings:
        return TableSettings(
            version=VERSION,
            manifests=(self.entries,),
            namespace="default",
            cluster_domain="cluster.local",
            search=(),
            state=self.state,
            auto_allocate=True,
            answer_endpoints=False,
            pools=Pools(IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48")),
            forward_other_types=False,
            ttl_s=30,
            negative_ttl_s=5,
            probe_suffix="probe.meshdns.invalid",
        )

    def wait_until_kept(self, other_than: str) -> str:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            kept = kept_table(Shelf(self.state))
            if kept is not None and kept.made_from != other_than:
                return kept.made_from
            time.sleep(0.02)
        raise AssertionError("nothing was kept")


def addresses(table: Table, host: str) -> list[str]:
    """Return the IPv4 addresses that a host has in a table."""
    rows = [row for row in table.rows if row.host == host]
    records = b"".join(row.a + row.lease_a for row in rows)
    return [str(IPv4Address(records[end - 4 : end])) for end in range(16, len(records) + 1, 16)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_unchanged_files_are_not_read_again(place: Place) -> None:
    """The second start takes the table over: the same answers, the same explanations, and no child."""
    with place.resolver() as one:
        place.wait_until_kept("")
        first = one.json("/table"), one.json("/explain?name=auto.internal&type=A")["from"]
        assert TAKEN_OVER not in one.log.read_text()
    with place.resolver() as one:
        assert TAKEN_OVER in one.log.read_text()
        assert (one.json("/table"), one.json("/explain?name=auto.internal&type=A")["from"]) == first
        assert one.addresses("auto.internal") == ["240.240.0.1"]


@pytest.mark.parametrize("change", ["a file", "another file", "an option", "the ledger", "no ledger"])
def test_a_change_is_noticed(change: str, place: Place) -> None:
    """Whatever a table follows from: when it is another, the manifests are read."""
    assert not place.load()[1]
    ledger = place.state / "leases.json"
    match change:
        case "a file":
            place.write("a", ADDRESS_AND_AUTO.replace("198.51.100.0", "198.51.100.7"))
        case "another file":
            place.write("b", LATE)
        case "the ledger":
            ledger.write_text(ledger.read_text().replace("240.240.0.1", "240.240.0.9").replace("::1", "::9"))
        case "no ledger":
            ledger.unlink()
    table, kept = place.load(**({"ttl_s": 9} if change == "an option" else {}))
    assert not kept
    assert addresses(table, "address.internal") == ["198.51.100.7" if change == "a file" else "198.51.100.0"]
    assert addresses(table, "auto.internal") == ["240.240.0.9" if change == "the ledger" else "240.240.0.1"]
    assert addresses(table, "late.internal") == (["240.240.0.2"] if change == "another file" else [])
    assert table.rows[0].ttl_s == (9 if change == "an option" else 30)
    assert place.load(**({"ttl_s": 9} if change == "an option" else {}))[1]


def _cut(shelf: Shelf, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _flipped(shelf: Shelf, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _pipe(shelf: Shelf, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _not_rows(shelf: Shelf, path: Path) -> None:
    _replace_rows(shelf, [b"[" * 100_000])


def _bad_records(shelf: Shelf, path: Path) -> None:
    _replace_rows(shelf, [packed(unpacked(data)._replace(a=b"c")) for data in _rows(shelf)])


def _short_rows(shelf: Shelf, path: Path) -> None:
    _replace_rows(shelf, [data[:9] for data in _rows(shelf)])


def _bad_names(shelf: Shelf, path: Path) -> None:
    _replace_rows(shelf, [packed(unpacked(data)._replace(cname=b"\x05abc\0")) for data in _rows(shelf)])


def _bad_summary(shelf: Shelf, path: Path) -> None:
    kept = kept_table(shelf)
    assert kept is not None
    _keep_parts(shelf, [*kept.parts[:2], b"[[[1]],[],[1,2,3,4]]", *kept.parts[3:]])


def _rows(shelf: Shelf) -> list[bytes]:
    kept = kept_table(shelf)
    assert kept is not None
    return [data for batch in kept.batches() for data in batch]


def _replace_rows(shelf: Shelf, rows: list[bytes]) -> None:
    kept = kept_table(shelf)
    assert kept is not None
    lengths = b"".join(len(data).to_bytes(4, "big") for data in rows)
    _keep_parts(shelf, [*kept.parts[:3], lengths, b"".join(rows)])


def _keep_parts(shelf: Shelf, parts: Iterable[bytes | memoryview]) -> None:
    shelf.put(NAME, b"".join(len(part).to_bytes(4, "big") + part for part in parts))


@pytest.mark.parametrize(
    "damage", [_cut, _flipped, _pipe, _not_rows, _bad_records, _short_rows, _bad_names, _bad_summary]
)
def test_a_damaged_table_is_ignored(damage: Callable[[Shelf, Path], None], place: Place) -> None:
    """What does not add up, or adds up and is no table, is passed over, and a good one takes its place."""
    place.load()
    damage(Shelf(place.state), place.state / "shelf" / NAME)
    table, kept = place.load()
    assert not kept
    assert addresses(table, "auto.internal") == ["240.240.0.1"]
    assert place.load()[1]


def test_what_happens_after_such_a_start(place: Place) -> None:
    """A document that goes bad keeps its names, a new one is answered, and what is told as new is what is new."""
    with place.resolver():
        place.wait_until_kept("")
    with place.resolver() as one:
        assert TAKEN_OVER in one.log.read_text()
        place.write("a", ADDRESS_AND_AUTO.replace("hosts: [auto.internal]", "hosts: [under_score]"))
        place.write("b", LATE)
        one.wait_for("late.internal", ["240.240.0.2"])
        assert one.addresses("auto.internal") == ["240.240.0.1"]
        log = one.log.read_text()
        assert "added: default/late.internal\n" in log
        assert f"{place.entries}/a.yaml:13: spec.hosts[0]: 'under_score' is not a domain name" in log
    assert addresses(place.load()[0], "auto.internal") == ["240.240.0.1"]


def test_only_what_changed_is_parsed(place: Place) -> None:
    """A file whose outcomes are on the shelf is believed, as is seen by outcomes that the file would not give."""
    place.load()
    path, data = str(place.entries / "a.yaml"), (place.entries / "a.yaml").read_bytes()
    first, second = read(data, path, "default")
    assert isinstance(second, Outcome)
    assert isinstance(second.entry, ServiceEntry)
    files = KeptFiles(Shelf(place.state), VERSION, "default")
    files.put(path, digest(data), [first, second._replace(entry=second.entry._replace(hosts=("kept.internal",)))])
    files.write()
    place.write("b", LATE)
    table, _ = place.load()
    assert [row.host for row in table.rows] == ["address.internal", "kept.internal", "late.internal"]


def test_the_shelf_does_not_grow(place: Place) -> None:
    """What was read from content that is gone is gone too, and so is what somebody left half-written."""
    place.load()
    (place.state / "shelf" / "0.new").write_bytes(b"half")
    for number in range(3):
        place.write("a", ADDRESS_AND_AUTO.replace("198.51.100.0", f"198.51.100.{number + 1}"))
        place.load()
        assert len(list((place.state / "shelf").iterdir())) == 2


def test_the_shelf_is_the_users_own(place: Place) -> None:
    """Others may not read what is kept, and a link in the place of a file is not followed."""
    place.load()
    shelf = place.state / "shelf"
    assert {oct(each.stat().st_mode & 0o777) for each in (shelf, shelf / NAME)} == {"0o700", "0o600"}
    victim = place.home / "victim"
    victim.write_text("mine")
    (shelf / "x.new").symlink_to(victim)
    Shelf(place.state).put("x", b"data")
    assert victim.read_text() == "mine"
    assert Shelf(place.state).get("x") is None


def test_without_a_place_nothing_is_kept(tmp_path: Path) -> None:
    """No state directory, or one that cannot be: nothing is kept and nothing fails."""
    (tmp_path / "file").write_text("")
    for shelf in (Shelf(None), Shelf(tmp_path / "file")):
        shelf.put("x", b"data")
        shelf.keep_only(())
        assert shelf.get("x") is None
