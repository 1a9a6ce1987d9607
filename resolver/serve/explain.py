"""Why a name answers as it does, as plain values for JSON: ours or not, by which object, beaten by whom, leased what.

Reads the table as it is; sends nothing and changes nothing.
"""

from __future__ import annotations

import asyncio
import difflib
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from meshdns.resolver.table.live import Match, Table
from meshdns.resolver.table.names import label_starts, to_key, to_text
from meshdns.resolver.table.ready import A_KIND, AAAA_KIND
from meshdns.resolver.table.records import IPV4_BYTES
from meshdns.resolver.table.row import Row

NEAREST: Final = 3
NEAREST_AMONG: Final = 20_000
"""Hosts that are compared with a name that is not ours: 0.15 ms each, and whoever asks waits for 10 s."""

COMPARED_PER_TURN: Final = 20
"""Hosts that are compared in one turn of the loop, in 3 ms."""

NO_ENTRY: Final = "no entry has this host"

_IPV6_BYTES: Final = 16
_HTTPS_KINDS: Final = frozenset({b"\0\x40\0\1", b"\0\x41\0\1"})  # SVCB and HTTPS, never forwarded

Explanation = dict[str, Any]


def explain_name(table: Table, text: str) -> Explanation:
    """Say what a name is to this table; `ours` tells whether it is answered from it."""
    key = to_key(text.lower())
    if key is None:
        return {"name": text, "ours": False, "reason": "it is not a well-formed name"}
    labels = label_starts(key)
    match = table.find(key, labels)
    if match is not None:
        return {"name": text, "ours": True, **_found(key, match), **explain_row(match.name.row)}
    zone = table.reverse_zone(key, labels)
    if zone is not None:
        return {"name": text, "ours": True, "reason": f"it lies in the reverse zone of a pool, {to_text(key[zone:])}"}
    forwarded = table.forwarded.get(key)
    if forwarded is not None:
        return {"name": text, "ours": False, "reason": forwarded.row.unanswered, **explain_row(forwarded.row)}
    return {"name": text, "ours": False, "reason": _passed_over(table, key, labels) or NO_ENTRY}


def _passed_over(table: Table, key: bytes, labels: tuple[int, ...]) -> str:
    """Say which wildcard would have the name, were it not under a search suffix."""
    wildcard = next((found for start in labels[1:] if (found := table.wildcards.get(key[start:]))), None)
    return f"{wildcard.row.host} leaves names under a search suffix alone" if wildcard else ""


def why_nothing(table: Table, key: bytes, kind: bytes, closed: str) -> str:
    """Say why a name of ours has no record of a type, `kind` with its class.

    `closed` says why leased addresses of a family are not answered, where they are not.
    """
    match = table.find(key, label_starts(key))
    if match is None:
        return "it only has names below it"
    row = match.name.row
    if match.service:
        return "a port has SRV records only"
    if kind in _HTTPS_KINDS:
        return "a name of ours has no such record, and its owner is not asked for one"
    if kind not in {A_KIND, AAAA_KIND}:
        return (
            "names of ours have addresses and ports only: --other-types forward, or the annotation "
            "meshdns.io/other-types, has the rest asked upstream"
        )
    size, family, gated = (IPV4_BYTES, 4, row.lease_a) if kind == A_KIND else (_IPV6_BYTES, 6, row.lease_aaaa)
    leased = ", ".join(str(ip_address(packed)) for packed in row.lease or () if len(packed) == size)
    if not leased:
        return f"it has no IPv{family} address"
    why = closed if gated else "its annotation meshdns.io/families says otherwise"
    return f"its lease {leased} is not answered: {why}"


async def nearest(table: Table, text: str) -> list[str]:
    """Return the hosts that are most like a name, the best first; lookups are answered while it compares."""
    wanted = text.lower().removesuffix(".")
    found: list[str] = []
    for at in range(0, min(len(table.rows), NEAREST_AMONG), COMPARED_PER_TURN):
        hosts = [row.host for row in table.rows[at : at + COMPARED_PER_TURN]]
        found = difflib.get_close_matches(wanted, [*found, *hosts], n=NEAREST)
        await asyncio.sleep(0)
    return found


def explain_address(table: Table, address: IPv4Address | IPv6Address) -> Explanation:
    """Say which host an address stands for."""
    name = table.addresses.get(address.packed)
    if name is None:
        return {"address": str(address), "ours": False, "reason": "no host has this address"}
    leased = name.row.lease is not None and address.packed in name.row.lease
    return {"address": str(address), "ours": True, "leased": leased, **explain_row(name.row)}


def explain_row(row: Row) -> Explanation:
    """Say everything about one host."""
    parts, beaten, notes = row.account
    return {
        "host": row.host,
        "namespace": row.namespace,
        "addresses": addresses_of(row),
        "lease": [str(ip_address(packed)) for packed in row.lease or ()],
        "external_name": to_text(row.cname) if row.cname else None,
        "aliases": [to_text(alias) for alias in row.aliases],
        "ttl": row.ttl_s,
        "from": [
            {
                "object": f"{part.source.kind} {part.source.namespace}/{part.source.name}",
                "at": f"{part.source.file}:{part.source.line}",
                "resolution": part.resolution,
                "ports": [{"number": port.number, "name": port.name, "protocol": port.protocol} for port in part.ports],
                "endpoints": [endpoint.address for endpoint in part.endpoints],
            }
            for part in parts
        ],
        "beaten": [{"object": str(loser.source), "rule": loser.rule} for loser in beaten],
        "notes": list(notes),
    }


def addresses_of(row: Row) -> list[str]:
    """List a host's own addresses and then its leased ones, in the order they are answered in."""
    found = [*_rdata(row.a, 4), *_rdata(row.aaaa, 16), *_rdata(row.lease_a, 4), *_rdata(row.lease_aaaa, 16)]
    return [str(ip_address(packed)) for packed in dict.fromkeys(found)]


def _rdata(records: bytes, size: int) -> list[bytes]:
    """Cut ready records (a pointer, ten fixed bytes, an address) down to their addresses."""
    return [records[at + 12 : at + 12 + size] for at in range(0, len(records), 12 + size)]


def _found(key: bytes, match: Match) -> Explanation:
    asked_under = to_text(key[match.stem :]) if match.stem < len(key) - 1 else ""
    how = "wildcard" if match.wildcard else "exact"
    return {"match": how, **({"search_suffix": asked_under} if asked_under else {})}
