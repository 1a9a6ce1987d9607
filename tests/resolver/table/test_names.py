"""Names as keys, and as text again."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.table.names import (
    ancestors,
    label_starts,
    reverse_zones,
    reversed_digits,
    to_key,
    to_text,
)

NAMES: dict[str, tuple[str, bytes | None]] = {
    "plain": ("a.test", b"\1a\4test\0"),
    "root dot": ("a.test.", b"\1a\4test\0"),
    "upper case": ("A.TeSt", b"\1a\4test\0"),
    "one label": ("a", b"\1a\0"),
    "root": (".", b"\0"),
    "underscore": ("_http._tcp.a", b"\5_http\4_tcp\1a\0"),
    "63 bytes": ("a" * 63, b"\x3f" + b"a" * 63 + b"\0"),
    "64 bytes": ("a" * 64, None),
    "255 bytes": (".".join(["a" * 63] * 3 + ["a" * 61]), (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"),
    "256 bytes": (".".join(["a" * 63] * 3 + ["a" * 62]), None),
    "nothing": ("", None),
    "empty label": ("a..b", None),
    "leading dot": (".a", None),
    "two root dots": ("a..", None),
    "not ASCII": ("bücher.test", None),
}


@pytest.mark.parametrize(("text", "key"), NAMES.values(), ids=NAMES.keys())
def test_to_key(text: str, key: bytes | None) -> None:
    """A host name has a key in wire form and lower case; what is no name has none."""
    assert to_key(text) == key
    if key is not None:
        assert to_text(key) == ("." if text == "." else text.lower().removesuffix("."))
        assert dns.name.from_wire(key, 0)[0] == dns.name.from_text(text)


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=4))
def test_text_of_any_labels(labels: list[bytes]) -> None:
    """The text of a key, whatever its bytes, names the same labels to dnspython."""
    key = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(key) <= 255:
        assert dns.name.from_text(to_text(key)).labels == (*labels, b"")


def test_label_starts() -> None:
    """Labels start at their length bytes; the root is no label."""
    assert label_starts(b"\0") == ()
    assert label_starts(b"\1a\4test\0") == (0, 2)


def test_ancestors() -> None:
    """The names above a name, nearest first, without the root."""
    assert ancestors(b"\1a\1b\4test\0") == (b"\1b\4test\0", b"\4test\0")
    assert ancestors(b"\4test\0") == ()


def reverse_key(address: str) -> bytes:
    key = to_key(ip_address(address).reverse_pointer)
    assert key is not None
    return key


@given(st.ip_addresses())
def test_reverse_names(address: IPv4Address | IPv6Address) -> None:
    """The standard library's reverse name spells the address's digits."""
    key = reverse_key(str(address))
    assert reversed_digits(key, label_starts(key)) == address.packed.hex()


REVERSED: dict[str, tuple[str, str | None]] = {
    "zone": ("240.240.in-addr.arpa", "f0f0"),
    "all of IPv4": ("in-addr.arpa", ""),
    "all of IPv6": ("ip6.arpa", ""),
    "one nibble": ("2.ip6.arpa", "2"),
    "leading zero": ("01.0.240.240.in-addr.arpa", None),
    "256": ("256.0.240.240.in-addr.arpa", None),
    "five octets": ("1.1.0.240.240.in-addr.arpa", None),
    "a word": ("www.240.240.in-addr.arpa", None),
    "two digits": ("10.ip6.arpa", None),
    "no digit": ("g.ip6.arpa", None),
    "another name": ("www.test", None),
    "arpa": ("arpa", None),
    "alike": ("1.xin-addr.arpa", None),
}


@pytest.mark.parametrize(("text", "digits"), REVERSED.values(), ids=REVERSED.keys())
def test_reversed_digits(text: str, digits: str | None) -> None:
    """Only octets and nibbles in their one spelling count."""
    key = to_key(text)
    assert key is not None
    assert reversed_digits(key, label_starts(key)) == digits


ZONES: dict[str, list[str]] = {
    "240.240.0.0/16": ["240.240.in-addr.arpa"],
    "10.0.0.0/8": ["10.in-addr.arpa"],
    "10.0.0.0/23": ["0.0.10.in-addr.arpa", "1.0.10.in-addr.arpa"],
    "10.0.0.252/30": [f"{n}.0.0.10.in-addr.arpa" for n in (252, 253, 254, 255)],
    "2001:2::/48": ["0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa"],
    "2001:2::/47": [f"{n}.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa" for n in (0, 1)],
    "fd00::/8": ["d.f.ip6.arpa"],
}


@pytest.mark.parametrize(("network", "zones"), ZONES.items(), ids=ZONES.keys())
def test_reverse_zones(network: str, zones: list[str]) -> None:
    """A pool's reverse zones cover it exactly."""
    assert [to_text(zone) for zone in reverse_zones(ip_network(network))] == zones


def test_zone_is_the_end_of_its_names() -> None:
    """Every address of a pool has its reverse name under one of its zones, and its neighbour has not."""
    zones = reverse_zones(ip_network("10.0.16.0/20"))
    assert reverse_key("10.0.31.255").endswith(zones)
    assert not reverse_key("10.0.32.0").endswith(zones)
