"""RuleSet -> text for `nft -f -`: one transaction that replaces our table and nothing else (nft(8)).

Every line is one statement, and a line that comes from a rule knows the rule's id, so that an error of nft's, which
names a line, can be told in our words. Values are printed from numbers, addresses and checked names, never pasted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from meshdns.capture.dialects.observed import NOTHING, Observed
from meshdns.capture.policy.ruleset import (
    Action,
    Beat,
    Chain,
    Count,
    Drop,
    Hook,
    LeaveAlone,
    Match,
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
from meshdns.capture.policy.spec import Family
from meshdns.capture.values import dataclass

NAME: Final = "meshdns"
TABLE: Final = f"inet {NAME}"
TRACE_NAME: Final = "meshdns_trace"
"""The second table, which lives as long as `trace` runs."""
ALIVE: Final = "alive"
ABOUT: Final = "about"
"""A chain without a hook: no packet meets it, and its rules are nothing but comments."""
MAX_COMMENT_LENGTH: Final = 128
"""nft 1.0.6 takes no more (NFTNL_UDATA_COMMENT_MAXLEN in libnftnl)."""

PLACES: Final[dict[tuple[Hook, Stage], tuple[str, int]]] = {
    # Conntrack looks at -200 (NF_IP_PRI_CONNTRACK), and the first zone counts: before iptables' raw table at -300.
    (Hook.OUTPUT, Stage.ZONE): ("filter", -301),
    (Hook.OUTPUT, Stage.MARK): ("filter", -300),
    (Hook.OUTPUT, Stage.DIVERT): ("route", -150),  # after conntrack, and a new mark is routed anew
    (Hook.OUTPUT, Stage.TRANSLATE): ("nat", -101),  # before everybody's -100, whichever was loaded first
    (Hook.OUTPUT, Stage.REFUSE): ("filter", 0),
    (Hook.INPUT, Stage.COUNT): ("filter", 300),  # after every filter: a heartbeat proves the way in
    (Hook.PREROUTING, Stage.DIVERT): ("filter", -150),
    (Hook.PREROUTING, Stage.TRANSLATE): ("nat", -101),
}
_BEGINS: Final = "tcp flags & (fin | syn | rst | ack) == syn"
ALIVE_SET: Final = f"add set {TABLE} {ALIVE} {{ typeof meta nfproto; flags dynamic,timeout; }}"
IP: Final = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_ICMP: Final = {Family.IPV4: "icmp", Family.IPV6: "icmpv6"}


@dataclass(frozen=True, slots=True)
class Line:
    """One statement; `rule_id` where it stands for a rule of ours."""

    text: str
    rule_id: str | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """Statements that nft carries out as one transaction."""

    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        """Return what `nft -f -` reads."""
        return "".join(f"{line.text}\n" for line in self.lines)


def render(rules: RuleSet, about: Sequence[str] = (), held: Observed = NOTHING, seed_s: float = 0) -> Script:
    """Return the script that puts `rules` in the place of whatever our table holds now (`held`).

    The set of living families stays while the table stands: emptying it would let lookups slip past a living resolver.
    Where something in the table is not ours, all of it is made anew, and the families alive now are for `seed_s` more.
    """
    return Script(tuple(_lines(rules, about, held, seed_s)))


def render_removal() -> Script:
    """Return the script that removes our table, there or not."""
    return Script((Line(f"add table {TABLE}"), Line(f"delete table {TABLE}")))


def _lines(rules: RuleSet, about: Sequence[str], held: Observed, seed_s: float) -> Iterator[Line]:
    yield Line(f"add table {TABLE}")
    if held.strangers:
        yield Line(f"delete table {TABLE}")
        yield Line(f"add table {TABLE}")
    else:
        yield Line(f"flush table {TABLE}")
        yield from _stale_chains(rules, held)
    yield Line(ALIVE_SET)
    if held.strangers and seed_s:
        for family in sorted(held.alive, key=lambda family: family.value):
            yield Line(f"add element {TABLE} {ALIVE} {{ {family.value} timeout {_duration(seed_s)} }}")
    yield Line(f"add chain {TABLE} {ABOUT}")
    for piece in about:
        yield Line(f'add rule {TABLE} {ABOUT} continue comment "{piece}"')
    for chain in rules.chains:
        yield from _chain(chain)


def _stale_chains(rules: RuleSet, held: Observed) -> Iterator[Line]:
    wanted: dict[str, tuple[Hook, Stage] | None] = {
        nft_name(chain): (chain.hook, chain.stage) for chain in rules.chains
    }
    wanted[ABOUT] = None
    for old in held.chains:
        if old.name not in wanted or wanted[old.name] != old.place:
            yield Line(f"delete chain {TABLE} {old.name}")


def _chain(chain: Chain) -> Iterator[Line]:
    kind, priority = PLACES[chain.hook, chain.stage]
    name = nft_name(chain)
    yield Line(
        f"add chain {TABLE} {name} {{ type {kind} hook {chain.hook.value} priority {priority}; policy accept; }}"
    )
    for rule in chain.rules:
        yield Line(f'add rule {TABLE} {name} {rule_text(rule)} comment "{rule.id}"', rule.id)


def nft_name(chain: Chain) -> str:
    """Return the chain's name in the table: nft wants no dash."""
    return chain.name.replace("-", "_")


def rule_text(rule: Rule) -> str:
    """Return the rule as nft would list it, without its comment."""
    return " ".join([*_match(rule.match), "counter", *_action(rule.action, rule.match.family)])


def _match(match: Match) -> Iterator[str]:
    yield from _who(match)
    for name, networks in (("saddr", match.source), ("daddr", match.destination)):
        if networks and match.family:
            yield f"{IP[match.family]} {name} {_chosen(networks)}"
    if match.local is not None:
        yield f"fib daddr type {'' if match.local else '!= '}local"
    yield from _transport(match)
    if match.state:
        yield f"ct state {match.state.value}"
    if match.alive is not None:  # last: behind it nft 1.1 takes no address or port, for fear of another family
        yield f"meta nfproto {'' if match.alive else '!= '}@{ALIVE}"


def _who(match: Match) -> Iterator[str]:
    if match.family and not (match.source or match.destination):
        yield f"meta nfproto {match.family.value}"  # with an address the family goes without saying
    for name, interfaces in (("iifname", match.in_interface), ("oifname", match.out_interface)):
        if interfaces:
            yield f"{name} {_chosen(interfaces, quoted=True)}"
    for name, numbers in (("skuid", match.uid), ("skgid", match.gid), ("mark", match.mark)):
        if numbers:
            yield f"meta {name} {_chosen(numbers)}"
    if match.connection_mark:
        yield f"ct mark {_chosen(match.connection_mark)}"


def _transport(match: Match) -> Iterator[str]:
    """Print one protocol with a port by its name, two by what their headers have in common (`th`)."""
    names = [protocol.value for protocol in match.protocols]
    if len(names) == 1 and (match.source_ports or match.destination_ports or match.udp_length is not None):
        header = names[0]
    elif names:
        header = "th"
        yield f"meta l4proto {names[0] if len(names) == 1 else _braces(names)}"
    if match.source_ports:
        yield f"{header} sport {_chosen(match.source_ports)}"
    if match.destination_ports:
        yield f"{header} dport {_chosen(match.destination_ports)}"
    if match.udp_length is not None:
        yield f"udp length {match.udp_length}"
    if match.syn:
        yield _BEGINS
    if match.transparent:
        yield "socket transparent 1"


def _action(action: Action, family: Family | None) -> Iterator[str]:  # noqa: C901 - one case for each action
    match action:
        case LeaveAlone():
            yield "return"
        case Redirect(port):
            yield f"redirect to :{port}"
        case TransparentProxy(port, mark):
            yield f"tproxy {IP[_known(family)]} to :{port} meta mark set {mark} accept"
        case SetZone(zone):
            yield f"ct zone set {zone}"
        case SetMark(mark):
            yield f"meta mark set {mark}"
        case SetConnectionMark(mark):
            yield f"ct mark set {mark}"
        case Reset():
            yield "reject with tcp reset"
        case Refuse():
            # Not the family-neutral icmpx: nft lists that as plain `reject`, and loads that as something else again.
            yield f"reject with {_ICMP[_known(family)]} type port-unreachable"
        case Drop():
            yield "drop"
        case Beat(timeout_s):
            yield f"update @{ALIVE} {{ meta nfproto timeout {_duration(timeout_s)} }}"
        case Count():
            pass


def _known(family: Family | None) -> Family:
    if family is None:
        raise ValueError("this action needs its family")
    return family


def _duration(seconds: float) -> str:
    """Return a time as nft reads it, which takes no number of more than eight digits."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole}s" * bool(whole) + f"{milliseconds}ms" * bool(milliseconds) or "0s"


def _chosen(selection: Selection[object], *, quoted: bool = False) -> str:
    values = [f'"{value}"' if quoted else _value(value) for value in selection.values]
    return f"{'!= ' if selection.negated else ''}{values[0] if len(values) == 1 else _braces(values)}"


def _value(value: object) -> str:
    if isinstance(value, IPv4Network | IPv6Network) and value.prefixlen == value.max_prefixlen:
        return str(value.network_address)
    return str(value)


def _braces(values: Iterable[str]) -> str:
    return f"{{ {', '.join(values)} }}"
