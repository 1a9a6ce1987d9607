"""Whose an address is does not depend on when somebody asks."""

from __future__ import annotations

from itertools import islice

from tables import WORLD, entry, table_of


def test_addresses_are_the_same_found_in_turns_or_when_asked_for() -> None:
    """A table asked before it is prepared, while it is, or afterwards names the same host for each address."""
    before, meanwhile, afterwards = [table_of(*WORLD) for _ in range(3)]
    steps = meanwhile.prepare()
    assert list(islice(steps, 1)) == [None]
    found = [{address: name.row for address, name in table.addresses.items()} for table in (before, meanwhile)]
    for table in (before, meanwhile, afterwards):
        for _ in steps if table is meanwhile else table.prepare():
            pass
        found.append({address: name.row for address, name in table.addresses.items()})
    assert found[0]
    assert all(each == found[0] for each in found)


def test_an_address_is_that_of_the_first_host_that_is_answered() -> None:
    """Of two hosts with one address the first has it; a forwarded host that leases one has none, nor has a wildcard."""
    table = table_of(*WORLD, entry("a.twice b.twice *.c.twice", "192.0.2.77"))
    assert table.addresses[bytes((192, 0, 2, 77))].row.host == "a.twice"
    forwarded = {address for row in table.rows if row.unanswered for address in row.pointers}
    answered = {address for row in table.rows if not row.unanswered for address in row.pointers}
    assert forwarded - answered
    assert table.addresses.keys() == answered


def test_an_address_exists_below_its_digits_only() -> None:
    """Beginnings of an address are there before and after preparing, and others are not."""
    for prepared in (False, True):
        table = table_of(entry("a.one", "192.0.2.77"))
        for _ in table.prepare() if prepared else ():
            pass
        for digits, there in (("c", True), ("c00", True), ("c000024", True), ("c01", False), ("", True)):
            assert table.has_addresses_below(digits) is there, digits
        assert not table_of().has_addresses_below("c")
