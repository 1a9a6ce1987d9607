"""A rule of ours as the entries that iptables can hold, and back.

An iptables entry compares with one value where a `Match` may ask for several, so a rule becomes one entry for each
combination of them, and entries in a row that carry one id are one rule again. How an entry is spelt stands elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from meshdns.capture.policy.ruleset import (
    Action,
    Match,
    Protocol,
    Rule,
    Selection,
    among,
    among_networks,
    among_ports,
)
from meshdns.capture.policy.spec import MAX_ID, Family, Network, Ports

V = TypeVar("V")

MAX_MULTIPORT: Final = 15
"""Places in one multiport match; a range takes two (XT_MULTI_PORTS in linux/netfilter/xt_multiport.h)."""

Ids = tuple[int, int]
"""Users or groups from the first to the second, both included."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One iptables rule: `match` compares each question with one value, and owners stand beside it as ranges.

    A negated selection of ports or marks may hold several values: iptables can ask for "none of them" in one entry.
    """

    match: Match
    uid: Ids | None
    gid: Ids | None
    action: Action


def expand(rule: Rule, family: Family) -> tuple[Entry, ...]:
    """Return the entries that together do in `family` what the rule says; ValueError for what iptables cannot say."""
    match = in_family(rule, family).match
    if match.connection_mark and not match.connection_mark.negated and len(match.connection_mark.values) > 1:
        raise ValueError("one mark of a connection in one rule")
    combinations = itertools.product(
        _ranges(match.uid),
        _ranges(match.gid),
        _singly(match.in_interface),
        _singly(match.out_interface),
        [match.mark] if match.mark and match.mark.negated else _singly(match.mark),
        _singly(match.source),
        _singly(match.destination),
        _protocols(match.protocols),
        _by_multiport(match.source_ports),
        _by_multiport(match.destination_ports),
    )
    return tuple(
        Entry(
            replace(
                match,
                uid=None,
                gid=None,
                in_interface=in_interface,
                out_interface=out_interface,
                mark=mark,
                source=source,
                destination=destination,
                protocols=protocols,
                source_ports=source_ports,
                destination_ports=destination_ports,
            ),
            uid,
            gid,
            rule.action,
        )
        for uid, gid, in_interface, out_interface, mark, source, destination, protocols, source_ports, destination_ports
        in combinations
    )  # fmt: skip


def in_family(rule: Rule, family: Family) -> Rule:
    """Return the rule as it is in one family and as iptables shows it: all addresses are no question, no reason."""
    source, destination = _asked(rule.match.source), _asked(rule.match.destination)
    return replace(rule, why="", match=replace(rule.match, family=family, source=source, destination=destination))


def _asked(networks: Selection[Network] | None) -> Selection[Network] | None:
    everything = networks and not networks.negated and any(not network.prefixlen for network in networks.values)
    return None if everything else networks


def join(rule_id: str, entries: Sequence[Entry]) -> Rule | None:
    """Return the rule that expands to exactly these entries, None where there is none."""
    first = entries[0].match
    matches = [entry.match for entry in entries]
    try:
        match = replace(
            first,
            uid=_owners(entry.uid for entry in entries),
            gid=_owners(entry.gid for entry in entries),
            in_interface=_united(match.in_interface for match in matches),
            out_interface=_united(match.out_interface for match in matches),
            mark=_united(match.mark for match in matches),
            source=_networks(match.source for match in matches),
            destination=_networks(match.destination for match in matches),
            protocols=tuple(p for p in Protocol if any(p in match.protocols for match in matches)),
            source_ports=_ports(match.source_ports for match in matches),
            destination_ports=_ports(match.destination_ports for match in matches),
        )
        rule = Rule(rule_id, "", match, entries[0].action)
        return rule if expand(rule, first.family or Family.IPV4) == tuple(entries) else None
    except ValueError:
        return None


def _protocols(protocols: tuple[Protocol, ...]) -> list[tuple[Protocol, ...]]:
    return [(protocol,) for protocol in protocols] or [()]


def _singly(selection: Selection[V] | None) -> list[Selection[V] | None]:
    if selection is None:
        return [None]
    if selection.negated and len(selection.values) > 1:
        raise ValueError(f"iptables has no way to say 'none of {selection.values}' here")
    return [Selection((value,), selection.negated) for value in selection.values]


def _by_multiport(selection: Selection[Ports] | None) -> list[Selection[Ports] | None]:
    if selection is None or selection.negated:
        return [selection]
    return [Selection(piece) for piece in multiport_pieces(selection.values)]


def multiport_pieces(ports: Iterable[Ports]) -> Iterator[tuple[Ports, ...]]:
    """Yield the ports in pieces that one multiport match can hold."""
    piece: list[Ports] = []
    taken = 0
    for some in ports:
        places = 1 if some.first == some.last else 2
        if taken + places > MAX_MULTIPORT:
            yield tuple(piece)
            piece, taken = [], 0
        piece.append(some)
        taken += places
    yield tuple(piece)


def _ranges(owners: Selection[int] | None) -> list[Ids | None]:
    """Return the selection as ranges. "None of these" is what lies between them.

    (`! --gid-owner` would hold for packets without a sender too, which have no owner to compare.)
    """
    if owners is None:
        return [None]
    if not owners.negated:
        return [(value, value) for value in owners.values]
    edges = [-1, *owners.values, MAX_ID + 1]
    return [(low + 1, high - 1) for low, high in itertools.pairwise(edges) if low + 1 < high]


def _owners(ranges: Iterable[Ids | None]) -> Selection[int] | None:
    found = list(dict.fromkeys(ranges))
    if found == [None]:
        return None
    known = [some for some in found if some is not None]
    if all(low == high for low, high in known) and len(known) == len(found):
        return among(low for low, _ in known)
    edges = [(-1, -1), *known, (MAX_ID + 1, MAX_ID + 1)]
    between = [range(left[1] + 1, right[0]) for left, right in itertools.pairwise(edges)]
    if sum(len(gap) for gap in between) > MAX_NEGATED_OWNERS:
        raise ValueError("more owners than anybody lists")
    return among((owner for gap in between for owner in gap), negated=True)


MAX_NEGATED_OWNERS: Final = 65536
"""Keeps a range that somebody else wrote from being listed one by one."""


def _values(selections: Iterable[Selection[V] | None]) -> tuple[list[V], bool] | None:
    found = list(dict.fromkeys(selections))
    if found == [None]:
        return None
    known = [selection for selection in found if selection is not None]
    return [value for selection in known for value in selection.values], known[0].negated


def _united(selections: Iterable[Selection[V] | None]) -> Selection[V] | None:
    found = _values(selections)
    return among(found[0], negated=found[1]) if found else None


def _networks(selections: Iterable[Selection[Network] | None]) -> Selection[Network] | None:
    found = _values(selections)
    return among_networks(found[0], negated=found[1]) if found else None


def _ports(selections: Iterable[Selection[Ports] | None]) -> Selection[Ports] | None:
    found = _values(selections)
    return among_ports(found[0], negated=found[1]) if found else None
