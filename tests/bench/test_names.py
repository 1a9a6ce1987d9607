"""All servers are given the same names, and queries that ask for them."""

from __future__ import annotations

import random

import dns.flags
import dns.message
import dns.rdatatype
import dns.zone
import pytest
import yaml
from bench import floor, names

HOSTS = names.hosts(1201)
ADDRESSES = {host: names.address(number) for number, host in enumerate(HOSTS)}


def test_hosts_file() -> None:
    """Dnsmasq and CoreDNS read an address and a name in each line."""
    pairs = (line.split() for line in names.hosts_file(HOSTS).splitlines())
    assert {name: address for address, name in pairs} == ADDRESSES


def test_zone_file() -> None:
    """NSD reads a zone in which every name has its address, and others have one by a wildcard."""
    zone = dns.zone.from_text(names.zone_file(HOSTS), names.ZONE, relativize=False)
    found = {str(name).rstrip("."): str(data) for name, _, data in zone.iterate_rdatas(dns.rdatatype.A)}
    assert ADDRESSES.items() <= found.items()
    assert f"*.{names.ZONE}" in found


def test_several_addresses_each() -> None:
    """A name can have several addresses, and no address belongs to two names."""
    zone = dns.zone.from_text(names.zone_file(HOSTS, 3), names.ZONE, relativize=False)
    sets = [zone.find_rdataset(f"{host}.", "A") for host in HOSTS]
    assert {len(one) for one in sets} == {3}
    assert len({str(data) for one in sets for data in one}) == 3 * len(HOSTS)


@pytest.mark.parametrize("leased", [True, False])
def test_service_entries(leased: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """Meshdns reads one entry for each name, with its address unless it is to be leased one."""
    files = list(names.service_entries(HOSTS, leased=leased, note="2"))
    assert len(files) == 3
    entries = [entry for text in files for entry in yaml.safe_load_all(text)]
    assert [entry["spec"]["hosts"] for entry in entries] == [[host] for host in HOSTS]
    found = [entry["spec"].get("addresses") for entry in entries]
    assert found == ([None] * len(HOSTS) if leased else [[address] for address in ADDRESSES.values()])


@pytest.mark.parametrize("edns", [True, False])
def test_query(edns: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """A query is the one that dnspython would send, but for its id."""
    wanted = dns.message.make_query(HOSTS[7], "A", use_edns=0 if edns else False, payload=1232, id=0)
    assert names.query(HOSTS[7], edns=edns) == wanted.to_wire()


@pytest.mark.parametrize("edns", [True, False])
def test_the_floor_answers(edns: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """The canned reply is a whole answer, as long as one of ours."""
    query = names.query(HOSTS[7], edns=edns)
    reply = dns.message.from_wire(b"\0\0" + floor.canned(query))
    assert dns.message.from_wire(query).is_response(reply)
    assert reply.flags & dns.flags.AA
    assert reply.answer[0].name == dns.name.from_text(HOSTS[7])
    assert (reply.edns == 0) is edns


def test_names_are_drawn_from_all() -> None:
    """The same seed draws the same names, and all of them are drawn."""
    drawn = names.drawn(HOSTS[:10], 1000, random.Random(1))
    assert drawn == names.drawn(HOSTS[:10], 1000, random.Random(1))
    assert set(drawn) == set(HOSTS[:10])
