"""`nft -j -n list table inet meshdns` -> Observed: the inverse of `render.py`, whatever else may have been put there.

A rule that `render.py` could not have written comes back as text. nft prints some things by number with `-n` and by
name without, and versions differ; both are read. Of a time it prints whole seconds only, so `visible` says what of a
rule set can be compared at all. JSON schema: libnftables-json(5).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network, summarize_address_range
from typing import Any, Final

from meshdns.capture.dialects.nft.render import ABOUT, ALIVE, PLACES
from meshdns.capture.dialects.observed import Observed, ObservedChain, ObservedRule
from meshdns.capture.policy.ruleset import (
    Action,
    Beat,
    ConnectionState,
    Count,
    Drop,
    Hook,
    LeaveAlone,
    Match,
    Protocol,
    Redirect,
    Refuse,
    Reset,
    Rule,
    RuleSet,
    SetConnectionMark,
    SetMark,
    SetZone,
    Stage,
    TransparentProxy,
    among,
    among_networks,
    among_ports,
)
from meshdns.capture.policy.spec import Family, Network, Ports
from meshdns.capture.values import replace

Json = Any
"""What json.loads gives."""

CHAIN_NAMES: Final = frozenset(
    {"beat_out", "beat_in", "zone", "out_divert", "nat", "rest", "in_divert", "in_nat", ABOUT}
)
_PLACE_OF: Final[Mapping[Json, tuple[Hook, Stage]]] = {
    (hook.value, kind, priority): (hook, stage) for (hook, stage), (kind, priority) in PLACES.items()
}

_FAMILIES: Final = {2: Family.IPV4, "ipv4": Family.IPV4, 10: Family.IPV6, "ipv6": Family.IPV6}
_PROTOCOLS: Final = {6: Protocol.TCP, "tcp": Protocol.TCP, 17: Protocol.UDP, "udp": Protocol.UDP}
_IP: Final = {"ip": Family.IPV4, "ip6": Family.IPV6}
_LOCAL: Final = (2, "local")  # RTN_LOCAL
_STATES: Final = {
    8: ConnectionState.NEW,
    "new": ConnectionState.NEW,
    1: ConnectionState.INVALID,
    "invalid": ConnectionState.INVALID,
}
_UNREACHABLE: Final = [
    {"type": kind, "expr": code}
    for kind, number in (("icmp", 3), ("icmpv6", 4))
    for code in (number, "port-unreachable")
]
_FLAGS: Final = {"payload": {"protocol": "tcp", "field": "flags"}}
_FLAG_BITS: Final = {"fin": 1, "syn": 2, "rst": 4, "ack": 16}
_MARK: Final = {"meta": {"key": "mark"}}
_ZONE: Final = {"ct": {"key": "zone"}}
_CONNECTION_MARK: Final = {"ct": {"key": "mark"}}
_NFPROTO: Final = {"meta": {"key": "nfproto"}}
_SWITCH_TYPES: Final = ("nf_proto", {"typeof": _NFPROTO})
"""The type of the switch's elements, in the words of nft 1.0 and of nft 1.1."""


class NotOursError(Exception):
    """Something that render.py does not write; never leaves this file but for `parse` on text that is no listing."""


def parse(text: str) -> Observed:
    """Return what the listing of our table says; raises NotOursError for text that is no such listing."""
    listing = _Listing()
    try:
        for item in json.loads(text)["nftables"]:
            for kind, value in item.items():
                listing.add(kind, value)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotOursError("not a listing in nft's JSON") from error
    return listing.observed()


def visible(rules: RuleSet) -> RuleSet:
    """Return the rule set as a listing can show it: no reasons, whole seconds."""
    chains = (replace(chain, rules=tuple(_visible(rule) for rule in chain.rules)) for chain in rules.chains)
    return replace(rules, chains=tuple(chains))


def _visible(rule: Rule) -> Rule:
    action = Beat(int(rule.action.timeout_s)) if isinstance(rule.action, Beat) else rule.action
    return Rule(rule.id, "", rule.match, action)


class _Listing:
    """Collects the listing's items; rules come after all chains, in order within each."""

    def __init__(self) -> None:
        self.present = False
        self.places: dict[str, tuple[Hook, Stage] | None] = {}
        self.rules: dict[str, list[ObservedRule]] = {}
        self.about: list[str] = []
        self.alive: frozenset[Family] | None = None
        self.strangers: list[str] = []

    def add(self, kind: str, value: Mapping[str, Json]) -> None:
        name = str(value.get("name"))
        if kind == "table":
            self.present = True
        elif kind == "chain" and name in CHAIN_NAMES:
            self.places[name] = _place(value)
        elif kind == "rule" and value.get("chain") == ABOUT and value.get("expr") == [{"continue": None}]:
            self.about.append(str(value.get("comment", "")))
        elif kind == "rule":
            self.rules.setdefault(str(value.get("chain")), []).append(_rule(value))
        elif kind == "set" and name == ALIVE and _is_switch(value):
            self.alive = _living(value.get("elem", ()))
        elif kind != "metainfo":
            self.strangers.append(f"{kind} {name}")

    def observed(self) -> Observed:
        strangers = list(self.strangers)
        if self.present and self.alive is None:
            strangers.append(f"no set {ALIVE}")
        return Observed(
            present=self.present,
            chains=tuple(
                ObservedChain(name, place, tuple(self.rules.get(name, ())))
                for name, place in self.places.items()
                if name != ABOUT or self.rules.get(name) or place
            ),
            about=tuple(self.about),
            alive=self.alive or frozenset(),
            strangers=tuple(strangers),
        )


def _place(chain: Mapping[str, Json]) -> tuple[Hook, Stage] | None:
    found: tuple[Json, Json, Json] = (chain.get("hook"), chain.get("type"), chain.get("prio"))
    return _PLACE_OF.get(found) if chain.get("policy", "accept") == "accept" else None


def _is_switch(value: Mapping[str, Json]) -> bool:
    return value.get("type") in _SWITCH_TYPES and "timeout" in value.get("flags", ())


def _living(elements: Sequence[Json]) -> frozenset[Family]:
    values = (element["elem"]["val"] if isinstance(element, dict) else element for element in elements)
    return frozenset(_FAMILIES[value] for value in values if value in _FAMILIES)


def _rule(value: Mapping[str, Json]) -> ObservedRule:
    expressions = value.get("expr", [])
    counter: Mapping[str, int] = next((e["counter"] for e in expressions if e.get("counter")), {})
    plain = [{"counter": None} if "counter" in expression else expression for expression in expressions]
    comment = value.get("comment")
    rule, text = None, ""
    try:
        rule = _understand(str(comment), plain)
    except (NotOursError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        text = json.dumps({"comment": comment, "expr": plain}, separators=(",", ":"))
    return ObservedRule(rule, text, counter.get("packets", 0), counter.get("bytes", 0))


def _understand(rule_id: str, expressions: Sequence[Mapping[str, Json]]) -> Rule:
    position = expressions.index({"counter": None})
    facts: dict[str, Json] = {}
    for expression in expressions[:position]:
        for name, fact in _facts(expression["match"]).items():
            if name == "protocols" and facts.get(name) == fact:
                continue  # `udp dport` and `udp length` both say udp
            if name in facts:
                raise NotOursError("asked twice")
            facts[name] = fact
    return Rule(rule_id, "", Match(**facts), _action(expressions[position + 1 :]))


def _facts(match: Mapping[str, Json]) -> dict[str, Json]:
    """Return the fields of `Match` that one comparison fills."""
    negated = {"==": False, "in": False, "!=": True}[match["op"]]
    ((kind, left),) = match["left"].items()
    right = match["right"]
    if kind == "meta":
        return _meta_facts(left["key"], right, negated=negated)
    if kind == "payload" and left["protocol"] in _IP:
        networks = among_networks(_networks(right), negated=negated)
        name = {"saddr": "source", "daddr": "destination"}[left["field"]]
        return {name: networks, "family": _IP[left["protocol"]]}
    if kind == "payload":
        return _transport_facts(left, right, negated=negated)
    if kind == "fib" and left == {"result": "type", "flags": ["daddr"]} and right in _LOCAL:
        return {"local": not negated}
    if kind == "ct" and left == {"key": "state"} and not negated:
        return {"state": _STATES[right]}
    if kind == "ct" and left == {"key": "mark"} and all(isinstance(value, int) for value in _members(right)):
        return {"connection_mark": among(_members(right), negated=negated)}
    if kind == "socket" and left == {"key": "transparent"} and right == 1 and not negated:
        return {"transparent": True}
    if kind == "&" and _begins(left, right) and not negated:
        return {"syn": True, "protocols": (Protocol.TCP,)}
    raise NotOursError(kind)


def _meta_facts(key: str, right: Json, *, negated: bool) -> dict[str, Json]:
    if key == "nfproto" and right == f"@{ALIVE}":
        return {"alive": not negated}
    if key == "nfproto" and not negated:
        return {"family": _FAMILIES[right]}
    if key == "l4proto" and not negated:
        named = {_PROTOCOLS[value] for value in _members(right)}
        return {"protocols": tuple(protocol for protocol in Protocol if protocol in named)}
    names = {"iifname": "in_interface", "oifname": "out_interface", "skuid": "uid", "skgid": "gid", "mark": "mark"}
    values = _members(right)
    if not all(isinstance(value, str if key.endswith("name") else int) for value in values):
        raise NotOursError(key)
    return {names[key]: among(values, negated=negated)}


def _transport_facts(left: Mapping[str, str], right: Json, *, negated: bool) -> dict[str, Json]:
    # `th` stands behind an l4proto that has named the protocols.
    protocols = {} if left["protocol"] == "th" else {"protocols": (_PROTOCOLS[left["protocol"]],)}
    if left["field"] == "length" and isinstance(right, int) and not negated:
        return {"udp_length": right, **protocols}
    name = {"sport": "source_ports", "dport": "destination_ports"}[left["field"]]
    return {name: among_ports(_ports(right), negated=negated), **protocols}


def _begins(left: Json, right: Json) -> bool:
    flags, among_these = left
    bits = {_FLAG_BITS.get(flag, flag) for flag in among_these}
    return flags == _FLAGS and bits == set(_FLAG_BITS.values()) and _FLAG_BITS.get(right, right) == _FLAG_BITS["syn"]


def _members(right: Json) -> list[Json]:
    return list(right["set"]) if isinstance(right, dict) else [right]


def _ports(right: Json) -> list[Ports]:
    members = right["set"] if isinstance(right, dict) and "set" in right else [right]
    return [Ports(*member["range"]) if isinstance(member, dict) else Ports(member, member) for member in members]


def _networks(right: Json) -> list[Network]:
    members = right["set"] if isinstance(right, dict) and "set" in right else [right]
    found: list[Network] = []
    for member in members:
        if isinstance(member, str):
            found.append(ip_network(member))
        elif "prefix" in member:
            found.append(ip_network(f"{member['prefix']['addr']}/{member['prefix']['len']}"))
        else:
            first, last = (ip_address(end) for end in member["range"])
            found.extend(summarize_address_range(first, last))
    return found


def _action(expressions: Sequence[Mapping[str, Json]]) -> Action:  # noqa: C901 - one case for each action
    # A mapping pattern lets more keys pass, and more keys mean something else: `redirect to :6 random`.
    match list(expressions):
        case [{"return": None}]:
            return LeaveAlone()
        case [{"redirect": {"port": int(port), **more}}] if not more:
            return Redirect(port)
        case [{"tproxy": {"port": int(port)}}, {"mangle": {"key": key, "value": int(mark)}}, {"accept": None}]:
            return _only(key == _MARK, TransparentProxy(port, mark))
        case [{"mangle": {"key": {"ct": _} as key, "value": int(value)}}]:
            action = SetConnectionMark(value) if key == _CONNECTION_MARK else SetZone(value)
            return _only(key in (_ZONE, _CONNECTION_MARK), action)
        case [{"mangle": {"key": key, "value": int(mark)}}]:
            return _only(key == _MARK, SetMark(mark))
        case [{"reject": {"type": "tcp reset"}}]:
            return Reset()
        case [{"reject": how}] if how in _UNREACHABLE:
            return Refuse()
        case [{"drop": None}]:
            return Drop()
        case [{"set": {"op": "update", "set": name, "elem": {"elem": {"val": value, "timeout": int(timeout_s)}}}}]:
            return _only((name, value) == (f"@{ALIVE}", _NFPROTO), Beat(timeout_s))
        case []:
            return Count()
    raise NotOursError("another action")


def _only(ours: bool, action: Action) -> Action:  # noqa: FBT001 - a condition, not an option
    if not ours:
        raise NotOursError("an action on something else")
    return action
