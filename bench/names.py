"""The names that are served, in the words of each server, and the queries for them. Pure.

Every server is given the same names with the same addresses. meshdns gets them as ServiceEntries, either with their
address or without, to be leased.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final

ZONE: Final = "bench.internal"
ENTRIES_PER_FILE: Final = 500

A: Final = 1
_HEADER: Final = struct.Struct("!HHHHHH")
_QUESTION_END: Final = struct.Struct("!HH")
_OPT: Final = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)
"""RFC 6891, section 6.1.2: root, OPT, 1232 bytes, no flags, no options."""

_RECURSION_DESIRED: Final = 0x0100
_BASE: Final = int(IPv4Address("10.0.0.1"))


def hosts(count: int, zone: str = ZONE) -> list[str]:
    """Return names as long as those of services usually are."""
    return [f"svc-{number}.{zone}" for number in range(count)]


def address(number: int) -> str:
    """Return the address of the host with this number."""
    return str(IPv4Address(_BASE + number))


def service_entries(names: Sequence[str], *, leased: bool, note: str = "") -> Iterator[str]:
    """Yield the text of manifest files. Another `note` makes every document another one with the same answers."""
    for first in range(0, len(names), ENTRIES_PER_FILE):
        numbers = range(first, min(first + ENTRIES_PER_FILE, len(names)))
        yield "---\n".join(_service_entry(names[number], number, note, leased=leased) for number in numbers)


def _service_entry(name: str, number: int, note: str, *, leased: bool) -> str:
    addresses = "" if leased else f"  addresses: [{address(number)}]\n"
    return (
        "apiVersion: networking.istio.io/v1\n"
        "kind: ServiceEntry\n"
        "metadata:\n"
        f"  name: svc-{number}\n"
        "  namespace: default\n"
        f'  labels: {{app: svc-{number}, note: "{note}"}}\n'
        "spec:\n"
        f"  hosts: [{name}]\n{addresses}"
        "  ports:\n"
        "    - {number: 80, name: http, protocol: HTTP}\n"
        "    - {number: 443, name: https, protocol: TLS}\n"
        "  location: MESH_EXTERNAL\n"
        "  resolution: STATIC\n"
        "  endpoints:\n"
        f"    - address: {address(number)}\n"
    )


def hosts_file(names: Sequence[str]) -> str:
    """Return the lines of a hosts file."""
    return "".join(f"{address(number)} {name}\n" for number, name in enumerate(names))


def zone_file(names: Sequence[str], addresses_each: int = 1, zone: str = ZONE, ttl_s: int = 3600) -> str:
    """Return a zone file; names that it does not list have an address as well, by a wildcard."""
    lines = [
        f"$ORIGIN {zone}.\n$TTL {ttl_s}\n@ SOA ns host 1 3600 600 86400 30\n@ NS ns\nns A 127.0.0.1\n* A 192.0.2.1\n"
    ]
    for number, name in enumerate(names):
        lines += [f"{name}. A {address(number + copy * len(names))}\n" for copy in range(addresses_each)]
    return "".join(lines)


def query(name: str, *, edns: bool) -> bytes:
    """Return a query for an address; its id is to be set when it is sent."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    head = _HEADER.pack(0, _RECURSION_DESIRED, 1, 0, 0, int(edns))
    return head + labels + b"\0" + _QUESTION_END.pack(A, 1) + (_OPT if edns else b"")


def drawn(names: Sequence[str], count: int, chance: random.Random) -> list[str]:
    """Draw names at random, each as likely as any other."""
    return chance.choices(names, k=count)
