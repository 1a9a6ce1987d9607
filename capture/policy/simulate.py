"""(RuleSet, Packet) -> Verdict: the rules of an installation, walked in Python as a kernel walks them.

No policy stands here: what happens to a packet is decided by the rules alone. `explain` prints the verdict, and the
tests send each packet through a kernel as well and compare.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final

from meshdns.capture.policy.ruleset import (
    Beat,
    Chain,
    ConnectionState,
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
    Selection,
    SetConnectionMark,
    SetMark,
    SetZone,
    Stage,
    TransparentProxy,
)
from meshdns.capture.policy.spec import Address, Family, Network, Ports
from meshdns.capture.policy.terms import LISTENER
from meshdns.capture.values import dataclass, replace

NOTHING_MATCHES: Final = "no rule captures it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """The first packet of a flow, as the first chain sees it; with an `in_interface` it comes from outside."""

    protocol: Protocol
    destination: Address
    destination_port: int | None = None
    source: Address | None = None
    source_port: int | None = None
    uid: int | None = None
    """Owner of the sending socket; None where a packet has no local sender."""
    gid: int | None = None
    mark: int = 0
    connection_mark: int = 0
    out_interface: str = ""
    in_interface: str = ""
    local: bool = False
    """Whether the destination is an address of this machine."""
    udp_length: int | None = None
    state: ConnectionState = ConnectionState.NEW

    @property
    def family(self) -> Family:
        """Return the packet's address family."""
        return Family.of(self.destination)


class Fate(enum.Enum):
    """What becomes of a packet."""

    DIRECT = "direct"
    REDIRECT = "redirect"
    TPROXY = "tproxy"
    REJECT = "reject"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A packet's fate and the rule that decided it; no rule: none had anything to say."""

    fate: Fate
    port: int | None = None
    rule: Rule | None = None
    zone: int | None = None
    passed_by: Rule | None = None
    """The first rule that would redirect the packet, but for a resolver that is down."""
    beats: bool = False
    """Whether the packet is a heartbeat, which keeps the dead-man's switch open."""

    @property
    def reason(self) -> str:
        """Return why, for people."""
        if self.fate is Fate.DIRECT and self.passed_by:
            return f"the resolver is down: while it is up, {self.passed_by.id} redirects this"
        return self.rule.why if self.rule else NOTHING_MATCHES


def simulate(rules: RuleSet, packet: Packet, alive: Collection[Family]) -> Verdict:
    """Return what `rules` do with `packet` while the resolver of the families in `alive` is alive."""
    hook = Hook.PREROUTING if packet.in_interface else Hook.OUTPUT
    verdict = Verdict(Fate.DIRECT)
    for chain in _chains(rules, hook):
        packet, verdict, ends = _walk(chain, packet, verdict, alive)
        if ends:
            return verdict
    if hook is Hook.OUTPUT and packet.local:
        arrived = replace(packet, in_interface="lo", out_interface="", uid=None, gid=None)
        for chain in _chains(rules, Hook.INPUT):
            arrived, verdict, _ = _walk(chain, arrived, verdict, alive)
    return verdict


def _chains(rules: RuleSet, hook: Hook) -> list[Chain]:
    return sorted((chain for chain in rules.chains if chain.hook is hook), key=lambda chain: chain.stage)


def _walk(  # noqa: C901 - one case for each action
    chain: Chain, packet: Packet, verdict: Verdict, alive: Collection[Family]
) -> tuple[Packet, Verdict, bool]:
    """Take the packet through one chain: what it is now, what its fate is so far, whether its way ends here."""
    for rule in chain.rules:
        if not holds(rule.match, packet, alive):
            verdict = _passing_by(verdict, rule, packet)
            continue
        match rule.action:
            case SetZone(zone):
                verdict = replace(verdict, zone=zone if verdict.zone is None else verdict.zone)
            case SetMark(mark):
                packet = replace(packet, mark=mark)
            case SetConnectionMark(mark):
                packet = replace(packet, connection_mark=mark)
            case LeaveAlone():
                # The chain that translates says best why a packet is direct: it has every exemption there is.
                decides = chain.stage is Stage.TRANSLATE or verdict.rule is None
                return packet, replace(verdict, rule=rule) if decides else verdict, False
            case Redirect(port):
                listener = LISTENER[packet.family].network_address
                packet = replace(packet, destination=listener, destination_port=port, local=True)
                return packet, replace(verdict, fate=Fate.REDIRECT, port=port, rule=rule), False
            case TransparentProxy(port):
                return packet, replace(verdict, fate=Fate.TPROXY, port=port, rule=rule), True
            case Reset() | Refuse():
                return packet, replace(verdict, fate=Fate.REJECT, rule=rule), True
            case Drop():
                return packet, replace(verdict, fate=Fate.DROP, rule=rule), True
            case Beat():
                verdict = replace(verdict, beats=True)
            case _:  # a counter changes nothing
                pass
    return packet, verdict, False


def _passing_by(verdict: Verdict, rule: Rule, packet: Packet) -> Verdict:
    """Return the verdict, with the rule noted where it would redirect the packet were the resolver alive."""
    waits = isinstance(rule.action, Redirect) and rule.match.alive and holds(rule.match, packet, (packet.family,))
    return replace(verdict, passed_by=rule) if waits and verdict.passed_by is None else verdict


def holds(match: Match, packet: Packet, alive: Collection[Family]) -> bool:
    """Return whether everything that `match` asks is true of `packet`."""
    return (
        match.family in {None, packet.family}
        and (not match.protocols or packet.protocol in match.protocols)
        and (match.alive is None or match.alive == (packet.family in alive))
        and (match.local is None or match.local == packet.local)
        and (match.state is None or match.state is packet.state)
        and (match.udp_length is None or match.udp_length == packet.udp_length)
        and not match.transparent  # the first packet of a flow belongs to no connection yet, and begins one
        and _covers(match.in_interface, packet.in_interface)
        and _covers(match.out_interface, packet.out_interface)
        and _covers(match.uid, packet.uid)
        and _covers(match.gid, packet.gid)
        and _covers(match.mark, packet.mark)
        and _covers(match.connection_mark, packet.connection_mark)
        and _contains(match.source, packet.source)
        and _contains(match.destination, packet.destination)
        and _has_port(match.source_ports, packet.source_port)
        and _has_port(match.destination_ports, packet.destination_port)
    )


def _covers(selection: Selection[str] | Selection[int] | None, value: str | int | None) -> bool:
    if selection is None:
        return True
    # Without a sender there is no owner to compare: neither "is" nor "is not" holds.
    return value is not None and (value in selection.values) != selection.negated


def _contains(networks: Selection[Network] | None, address: Address | None) -> bool:
    if networks is None:
        return True
    return address is not None and any(address in network for network in networks.values) != networks.negated


def _has_port(ports: Selection[Ports] | None, port: int | None) -> bool:
    if ports is None:
        return True
    return port is not None and any(some.first <= port <= some.last for some in ports.values) != ports.negated
