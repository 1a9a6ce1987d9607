"""Entries, leases and a scope become a table: what is settled is put into rows, and rows into a table.

`rows` is what a loading child runs, `live.Assembler` what its parent takes the rows over with; `build` does both at
once. Which addresses a host has is decided in `candidates`, who gets a host in `settle`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from meshdns.resolver.source.entry import Address, Entry
from meshdns.resolver.table.candidate import Candidate, Kind, Lease, Visibility
from meshdns.resolver.table.candidates import candidates
from meshdns.resolver.table.live import Assembler, Table
from meshdns.resolver.table.names import to_key
from meshdns.resolver.table.packed import packed
from meshdns.resolver.table.records import IPV4_BYTES, addresses, srv_head
from meshdns.resolver.table.row import Account, Beaten, PortRow, Row
from meshdns.resolver.table.scope import Scope, common
from meshdns.resolver.table.settle import Settled, settle

__all__ = ["Assembler", "Lease", "Row", "Scope", "Table", "build", "common", "rows"]

ADDRESSES_MOST: Final = 2000
"""Of one family and one host: 28 bytes each must fit a TCP message of 65,535."""

_PROTOCOLS: Final = {"UDP": b"\x04_udp", "SCTP": b"\x05_sctp"}
_TCP: Final = b"\x04_tcp"
_LABEL_TEXT_MOST: Final = 62  # 63 less the underscore


def build(entries: Sequence[Entry], leases: Iterable[Lease], scope: Scope) -> Table:
    """Return the whole table at once."""
    assembler = Assembler(common(scope))
    assembler.add(map(packed, rows(entries, leases, scope)))
    return assembler.finish()


def rows(entries: Sequence[Entry], leases: Iterable[Lease], scope: Scope) -> Iterator[Row]:
    """Yield every host once, in the order of `settle`: what a loading child sends to its parent."""
    short: dict[str, list[Settled]] = {}
    whole: list[Settled] = []
    for settled in settle(candidates(entries, leases, scope), scope.namespace):
        stands_for = settled.winners[0].short_of
        if stands_for:
            short.setdefault(stands_for, []).append(settled)
        else:
            whole.append(settled)
    for settled in whole:
        yield _row(settled, short.get(settled.host, ()), scope)


def _row(settled: Settled, shorts: Iterable[Settled], scope: Scope) -> Row:
    winners = settled.winners
    first = winners[0]
    wildcard = settled.host.startswith("*.")
    key = to_key(settled.host[2:] if wildcard else settled.host)
    external = to_key(first.external) if first.external else b""
    ttl_s = next((each.policy.ttl_s for each in winners if each.policy.ttl_s is not None), scope.ttl_s)
    forward = [each.policy.forward_other_types for each in winners if each.policy.forward_other_types is not None]
    a, aaaa, lease_a, lease_aaaa = _sections(winners, ttl_s)
    lease = tuple(dict.fromkeys(address.packed for each in winners for address in each.leased))
    configured = [address.packed for each in winners if each.configured for address in each.addresses]
    return Row(
        key=key or b"\x00",
        host=settled.host,
        wildcard=wildcard,
        direct=first.kind is not Kind.ENTRY,
        namespace=first.meta.namespace,
        aliases=tuple([alias for each in shorts if (alias := to_key(each.host)) is not None]),
        ttl_s=ttl_s,
        forward_other_types=forward[0] if forward else scope.forward_other_types,
        a=a,
        aaaa=aaaa,
        lease=lease or None,
        lease_a=lease_a,
        lease_aaaa=lease_aaaa,
        cname=external or b"",
        srv=() if external else _services(tuple(dict.fromkeys(each.part.ports for each in winners))),
        pointers=() if wildcard else tuple(dict.fromkeys((*lease, *configured))),
        unanswered=_unanswered(settled, key, external, scope),
        told=_account(settled, shorts).text(),
    )


def _account(settled: Settled, shorts: Iterable[Settled]) -> Account:
    return Account(
        tuple([each.part for each in settled.winners]),
        tuple([Beaten(loser.part.source, rule) for each in (settled, *shorts) for loser, rule in each.beaten]),
        tuple(dict.fromkeys(_notes(settled))),
    )


def _sections(winners: Iterable[Candidate], ttl_s: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the records that are always answered, A and AAAA, and those answered while leases of their family are."""
    always = dict.fromkeys([address.packed for each in winners for address in _always(each)])
    gated = dict.fromkeys(
        [address.packed for each in winners if each.policy.families is None for address in each.leased]
    )
    rest = [packed for packed in gated if packed not in always]
    return (*_records(always, ttl_s), *_records(rest, ttl_s))


def _always(claim: Candidate) -> Iterable[Address]:
    """Return what does not depend on the pod: the addresses, and leases of families that the object asks for."""
    families = claim.policy.families
    if families is None:
        return claim.addresses
    return [address for address in (*claim.addresses, *claim.leased) if address.version in families]


def _records(found: Collection[bytes], ttl_s: int) -> tuple[bytes, bytes]:
    """Return the A and the AAAA records of packed addresses."""
    if not found:
        return b"", b""
    v4 = [packed for packed in found if len(packed) == IPV4_BYTES]
    v6 = [packed for packed in found if len(packed) != IPV4_BYTES]
    return addresses(v4[:ADDRESSES_MOST], ttl_s), addresses(v6[:ADDRESSES_MOST], ttl_s)


@lru_cache(maxsize=1024)
def _services(declared: tuple[tuple[PortRow, ...], ...]) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    """Return `_port._proto` labels and SRV data for every port that has a name (RFC 2782)."""
    services: dict[bytes, dict[bytes, None]] = {}
    for port in chain.from_iterable(declared):
        name = port.name.lower()
        if name and name.isascii() and len(name) <= _LABEL_TEXT_MOST and "." not in name:
            label = b"_" + name.encode()
            labels = bytes((len(label),)) + label + _PROTOCOLS.get(port.protocol, _TCP)
            services.setdefault(labels, {})[srv_head(port.number)] = None
    return tuple([(labels, tuple(heads)) for labels, heads in services.items()])


def _unanswered(settled: Settled, key: bytes | None, external: bytes | None, scope: Scope) -> str:
    """Say why the host is forwarded; empty when it is ours."""
    first = settled.winners[0]
    if first.visibility is Visibility.HIDDEN:
        return f"it is not exported to namespace {scope.namespace}"
    if key is None or key == b"\x00" or b"*" in key:
        return "it is no host name that can be answered"
    if first.external and not external:
        return f"its externalName {first.external[:80]!r} is no name"
    if external or any(each.addresses or each.leased for each in settled.winners):
        return ""
    return next((each.reason for each in settled.winners if each.reason), "it has no address")


def _notes(settled: Settled) -> Iterator[str]:
    for each in settled.winners:
        yield from each.notes
        if each.reason and len(settled.winners) > 1:
            yield f"{each.part.source} adds no address: {each.reason}"
