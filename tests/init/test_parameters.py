"""Every value is checked when it is read, and a refusal names the value and the nearest valid form."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import click
import pytest

from meshdns.capture.policy.spec import Ports
from meshdns.init.parameters import (
    ADDRESS,
    CIDR,
    GROUP,
    HEARTBEAT_SECONDS,
    INTERFACE,
    PORT,
    PORT_RANGE,
    SECONDS,
    SWITCH,
    USER,
    CidrType,
    Keyword,
    ListType,
    NumberType,
    SecondsType,
)
from meshdns.init.server_parameters import HOST_NAME, SERVER, ZONE, SocketAddressType
from meshdns.resolver.serve.address import SocketAddress

ACCEPTED: list[tuple[click.ParamType[Any], str, object]] = [
    (PORT, "1", 1),
    (SWITCH, "On", True),
    (SWITCH, "f", False),
    (HEARTBEAT_SECONDS, "0.1", 0.1),
    (PORT, "65535", 65535),
    (PORT_RANGE, "80", Ports(80, 80)),
    (PORT_RANGE, "8000-8010", Ports(8000, 8010)),
    (CIDR, "10.0.0.0/8", ip_network("10.0.0.0/8")),
    (CIDR, "192.0.2.1", ip_network("192.0.2.1/32")),
    (CIDR, "fd00::/8", ip_network("fd00::/8")),
    (ADDRESS, "::1", ip_address("::1")),
    (INTERFACE, "eth0.100@if2", "eth0.100@if2"),
    (SECONDS, "3", 3.0),
    (SECONDS, "0.5", 0.5),
    (SecondsType(least=0), "0", 0.0),
    (NumberType(0, 10), "0", 0),
    (NumberType(0, 10), " 10", 10),
    (HOST_NAME, "Corp.Example.", "corp.example"),
    (HOST_NAME, "_tcp.x-1", "_tcp.x-1"),
    (SERVER, "10.0.0.53", SocketAddress(ip_address("10.0.0.53"), 53)),
    (SERVER, "[::1]:5353", SocketAddress(ip_address("::1"), 5353)),
    (SERVER, "::1", SocketAddress(ip_address("::1"), 53)),
    (ZONE, "corp.example=10.0.0.53:54", ("corp.example", SocketAddress(ip_address("10.0.0.53"), 54))),
    (USER, "0", 0),
    (USER, "root", 0),
    (GROUP, "4294967294", 4294967294),
    (Keyword(CIDR, "*"), "*", "*"),
    (ListType(PORT), "1, 2,3", (1, 2, 3)),
]

REFUSED: list[tuple[click.ParamType[Any], str, str]] = [
    (PORT, "0", "give a number from 1 to 65535"),
    (PORT, "65536", "give a number from 1 to 65535"),
    (PORT, "9" * 5000, "give a number from 1 to 65535"),
    (PORT, "00000199999", "give a number from 1 to 65535"),
    (PORT, "-1", "give a number from 1 to 65535"),
    (PORT, "٤٢", "give a number from 1 to 65535"),
    (PORT, "80 81", "give a number from 1 to 65535"),
    (PORT_RANGE, "90-80", "write 80-90"),
    (PORT_RANGE, "80-", "is not a port"),
    (CIDR, "10.0.0.1/8", "write 10.0.0.0/8"),
    (CIDR, "ten", "give something like 10.96.0.0/12"),
    (CidrType(4), "fd00::/8", "give an IPv4 network"),
    (ADDRESS, "fe80::1%eth0", "write fe80::1"),
    (ADDRESS, "10.0.0", "is not an IP address"),
    (INTERFACE, "an interface", "without space"),
    (INTERFACE, 'e"; drop', "without space"),
    (INTERFACE, "..", "is not an interface name"),
    (INTERFACE, "x" * 16, "at most 15"),
    (SECONDS, "0", "above 0"),
    (SECONDS, "3s", "write 3 or 0.5"),
    (SECONDS, "nan", "write 3 or 0.5"),
    (SECONDS, "999999", "up to 604800"),
    (HEARTBEAT_SECONDS, "0", "'0' is out of range: give seconds from 0.1 up to 604800"),
    (SWITCH, "maybe", "'maybe' is not a boolean: write true or false"),
    (NumberType(0, 10), "11", "'11' is not a whole number from 0 to 10"),
    (NumberType(0, 10), "0000000011", "is not a whole number from 0 to 10"),
    (NumberType(1, 10), "0", "from 1 to 10"),
    (NumberType(0, 10), "-1", "from 0 to 10"),
    (NumberType(0, 10), "1.5", "from 0 to 10"),
    (NumberType(0, 10), "True", "from 0 to 10"),
    (NumberType(0, 10), "٤", "from 0 to 10"),
    (NumberType(0, 10), "", "from 0 to 10"),
    (HOST_NAME, "a..b", "is not a DNS name"),
    (HOST_NAME, "-a", "is not a DNS name"),
    (HOST_NAME, "a" * 64, "is not a DNS name"),
    (SERVER, "10.0.0.53:0", "is not a port"),
    (SERVER, "10.0.0.53:", "is not a port"),
    (SERVER, "ns.example", "is not an address with a port"),
    (SocketAddressType(), "127.0.0.1", "write 127.0.0.1:15053"),
    (SocketAddressType(), "::1:53", "write 127.0.0.1:15053"),
    (ZONE, "corp.example", "write corp.example=10.0.0.53"),
    (USER, "nobody-of-this-name", "create it, or give its number"),
    (USER, "00000000000" + "4294967295", "at most 4294967294"),
    (USER, "4294967295", "at most 4294967294"),
    (ListType(PORT), "1,,2", "has an empty item"),
    (ListType(PORT), "", "has an empty item"),
]


@pytest.mark.parametrize(("kind", "text", "value"), ACCEPTED, ids=lambda v: v if isinstance(v, str) else "")
def test_a_valid_text_becomes_its_value(kind: click.ParamType[Any], text: str, value: object) -> None:
    """A text in the documented form becomes exactly its value."""
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(("kind", "text", "hint"), REFUSED)
def test_an_invalid_text_is_refused_with_a_hint(kind: click.ParamType[Any], text: str, hint: str) -> None:
    """A text in any other form is refused, and the message says what would be right."""
    with pytest.raises(click.BadParameter) as refusal:
        kind.convert(text, None, None)
    assert hint in refusal.value.message
