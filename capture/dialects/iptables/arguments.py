"""An entry <-> the arguments of an iptables command, spelt as `iptables-save` spells them (iptables-extensions(8)).

What is read counts as ours only if printing what was understood gives the same options again, so an option that nobody
here knows can never go unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from meshdns.capture.dialects.iptables.entry import Entry, Ids, multiport_pieces
from meshdns.capture.dialects.iptables.heartbeat import HEARTBEATS
from meshdns.capture.policy.ruleset import (
    Action,
    Beat,
    ConnectionState,
    Count,
    Drop,
    LeaveAlone,
    Match,
    Protocol,
    Redirect,
    Refuse,
    Reset,
    Selection,
    SetConnectionMark,
    SetMark,
    SetZone,
    TransparentProxy,
    among,
    among_networks,
    among_ports,
)
from meshdns.capture.policy.spec import Family, Network, Ports

_NO_MASK: Final = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}
"""Every address is the same to the list: it remembers when, not who."""
_IP_HEADER_BYTES: Final = {Family.IPV4: 20, Family.IPV6: 40}
_UNREACHABLE: Final = {Family.IPV4: "icmp-port-unreachable", Family.IPV6: "icmp6-port-unreachable"}
_WHOLE_MARK: Final = "0xffffffff"
_BEGINS: Final = ("FIN,SYN,RST,ACK", "SYN")
"""Flags that are looked at, and those among them that are set: what `--syn` stands for."""


def arguments(entry: Entry, rule_id: str, timeout_s: int | None) -> tuple[str, ...]:
    """Return what follows `-A CHAIN`; `timeout_s` is how long a heartbeat lasts, which iptables asks where it looks.

    Without it, the words are for people.
    """
    family = entry.match.family or Family.IPV4
    return (
        *_header(entry.match),
        *_owner(entry),
        *_transport(entry.match),
        *_state(entry.match, family, timeout_s),
        *(_recent(family, "--set") if isinstance(entry.action, Beat) else ()),
        *("-m", "comment", "--comment", rule_id),
        *_target(entry.action, family),
    )


def _header(match: Match) -> Iterator[str]:
    for option, selection in (
        ("-s", match.source),
        ("-d", match.destination),
        ("-i", match.in_interface),
        ("-o", match.out_interface),
    ):
        if selection:
            yield from (*_negation(selection), option, str(selection.values[0]))
    if match.protocols:
        yield from ("-p", match.protocols[0].value)


def _owner(entry: Entry) -> Iterator[str]:
    for option, ids in (("--uid-owner", entry.uid), ("--gid-owner", entry.gid)):
        if ids:
            low, high = ids
            yield from ("-m", "owner", option, str(low) if low == high else f"{low}-{high}")


def _transport(match: Match) -> Iterator[str]:
    if match.source_ports or match.destination_ports:
        protocol = match.protocols[0].value
        for selection, one, many in (
            (match.source_ports, "--sport", "--sports"),
            (match.destination_ports, "--dport", "--dports"),
        ):
            if selection is None:
                continue
            for piece in multiport_pieces(selection.values):
                module, option = (protocol, one) if len(piece) == 1 else ("multiport", many)
                yield from ("-m", module, *_negation(selection), option, ",".join(map(_port, piece)))
    if match.syn:
        yield from ("-m", "tcp", "--tcp-flags", *_BEGINS)
    if match.transparent:
        yield from ("-m", "socket", "--transparent")
    if match.udp_length is not None and match.family:
        yield from ("-m", "length", "--length", str(_IP_HEADER_BYTES[match.family] + match.udp_length))


def _state(match: Match, family: Family, timeout_s: int | None) -> Iterator[str]:
    if match.mark:
        for mark in match.mark.values:
            yield from ("-m", "mark", *_negation(match.mark), "--mark", hex(mark))
    if match.connection_mark:
        for mark in match.connection_mark.values:
            yield from ("-m", "connmark", *_negation(match.connection_mark), "--mark", hex(mark))
    if match.local is not None:
        yield from ("-m", "addrtype", *(() if match.local else ("!",)), "--dst-type", "LOCAL")
    if match.state:
        yield from ("-m", "conntrack", "--ctstate", match.state.value.upper())
    if match.alive is not None:
        age = () if timeout_s is None else ("--seconds", str(timeout_s))
        yield from _recent(family, *(() if match.alive else ("!",)), "--rcheck", *age)


def _recent(family: Family, *question: str) -> tuple[str, ...]:
    return ("-m", "recent", *question, "--name", HEARTBEATS, "--mask", _NO_MASK[family], "--rdest")


def _target(action: Action, family: Family) -> tuple[str, ...]:  # noqa: C901 - one case for each action
    match action:
        case LeaveAlone():
            return ("-j", "RETURN")
        case Redirect(port):
            return ("-j", "REDIRECT", "--to-ports", str(port))
        case TransparentProxy(port, mark):
            anywhere = _NO_MASK[family]
            marked = f"{mark:#x}/{_WHOLE_MARK}"
            return ("-j", "TPROXY", "--on-port", str(port), "--on-ip", anywhere, "--tproxy-mark", marked)
        case SetZone(zone):
            return ("-j", "CT", "--zone", str(zone))
        case SetMark(mark):
            return ("-j", "MARK", "--set-xmark", f"{mark:#x}/{_WHOLE_MARK}")
        case SetConnectionMark(mark):
            return ("-j", "CONNMARK", "--set-xmark", f"{mark:#x}/{_WHOLE_MARK}")
        case Reset():
            return ("-j", "REJECT", "--reject-with", "tcp-reset")
        case Refuse():
            return ("-j", "REJECT", "--reject-with", _UNREACHABLE[family])
        case Drop():
            return ("-j", "DROP")
        case Beat() | Count():
            return ()


def _negation(selection: Selection[Any]) -> tuple[str, ...]:
    return ("!",) if selection.negated else ()


def _port(ports: Ports) -> str:
    return str(ports).replace("-", ":")


@dataclass(frozen=True, slots=True)
class Understood:
    """An entry that was read. `timeout_s`: after how long it takes a heartbeat for old, None where it does not ask."""

    rule_id: str
    entry: Entry
    timeout_s: int | None


def understand(family: Family, words: Sequence[str]) -> Understood | None:
    """Return what the arguments of an entry mean, None where nobody of ours would have written them."""
    try:
        options = _Options(words)
        seconds = options.number("--seconds")
        understood = Understood(options.only("--comment") or "", _entry(family, options), seconds)
        printed = arguments(understood.entry, understood.rule_id, seconds or 0)
        same = sorted(_spelling(_Options(printed).found)) == sorted(_spelling(options.found))
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return understood if same else None


WITHOUT_VALUE: Final = frozenset({"--rcheck", "--set", "--rdest", "--transparent"})
WITH_TWO_VALUES: Final = frozenset({"--tcp-flags"})
_NETWORKS: Final = frozenset({"-s", "-d"})
CONNECTION_MARK: Final = "connmark --mark"
"""The option `--mark` of connmark, which the match `mark` has as well."""
_MARKS: Final = frozenset({"--mark", CONNECTION_MARK, "--set-xmark", "--tproxy-mark"})

Option = tuple[str, str, bool]
"""Its name, its value, whether `!` stands before it."""


class _Options:
    """The options of an entry; the names of match modules go without saying, for one option only two have the same."""

    def __init__(self, words: Sequence[str]) -> None:
        self.found: list[Option] = []
        negated = False
        module = ""
        remaining = iter(words)
        for word in remaining:
            if word == "!":
                negated = True
                continue
            value = "" if word in WITHOUT_VALUE else next(remaining, "")
            if word in WITH_TWO_VALUES:
                value = f"{value} {next(remaining, '')}"
            if word == "-m":
                module = value
                continue
            name = CONNECTION_MARK if (module, word) == ("connmark", "--mark") else word
            self.found.append((name, value, negated))
            negated = False

    def all(self, name: str) -> list[tuple[str, bool]]:
        return [(value, negated) for option, value, negated in self.found if option == name]

    def only(self, name: str) -> str | None:
        """Return the value of an option that may stand once and not negated."""
        found = self.all(name)
        if len(found) > 1 or any(negated for _, negated in found):
            raise ValueError(name)
        return found[0][0] if found else None

    def number(self, name: str) -> int | None:
        value = self.only(name)
        return None if value is None else int(value)


def _spelling(options: Sequence[Option]) -> Iterator[Option]:
    """Yield the options with addresses and marks in one spelling: programs write them in more than one."""
    for name, value, negated in options:
        if name in _NETWORKS:
            yield name, str(ip_network(value)), negated
        elif name in _MARKS:
            mark, _, mask = value.partition("/")
            yield name, f"{int(mark, 0)}/{int(mask or _WHOLE_MARK, 0)}", negated
        else:
            yield name, value, negated


def _entry(family: Family, options: _Options) -> Entry:
    protocol = options.only("-p")
    length = options.number("--length")
    state = options.only("--ctstate")
    match = Match(
        family=family,
        source=_selected_network(options, "-s"),
        destination=_selected_network(options, "-d"),
        in_interface=_selected_interface(options, "-i"),
        out_interface=_selected_interface(options, "-o"),
        protocols=(Protocol(protocol),) if protocol else (),
        source_ports=_selected_ports(options, "--sport", "--sports"),
        destination_ports=_selected_ports(options, "--dport", "--dports"),
        udp_length=None if length is None else length - _IP_HEADER_BYTES[family],
        mark=_selected_marks(options, "--mark"),
        connection_mark=_selected_marks(options, CONNECTION_MARK),
        local=_asked(options, "--dst-type"),
        syn=bool(options.all("--tcp-flags")),
        transparent=bool(options.all("--transparent")),
        state=ConnectionState(state.lower()) if state else None,
        alive=_asked(options, "--rcheck"),
    )
    return Entry(match, _ids(options, "--uid-owner"), _ids(options, "--gid-owner"), _action(options))


def _action(options: _Options) -> Action:
    beats = bool(options.all("--set"))
    match options.only("-j"):
        case None:
            # How long it lasts stands in the entries that ask for it.
            return Beat(0) if beats else Count()
        case "RETURN":
            return LeaveAlone()
        case "REDIRECT":
            return Redirect(int(options.only("--to-ports") or ""))
        case "TPROXY":
            return TransparentProxy(int(options.only("--on-port") or ""), _mark(options.only("--tproxy-mark") or ""))
        case "CT":
            return SetZone(int(options.only("--zone") or ""))
        case "MARK":
            return SetMark(_mark(options.only("--set-xmark") or ""))
        case "CONNMARK":
            return SetConnectionMark(_mark(options.only("--set-xmark") or ""))
        case "REJECT":
            return Reset() if options.only("--reject-with") == "tcp-reset" else Refuse()
        case "DROP":
            return Drop()
    raise ValueError("another target")


def _mark(value: str) -> int:
    return int(value.partition("/")[0], 0)


def _asked(options: _Options, name: str) -> bool | None:
    found = options.all(name)
    return None if not found else not found[0][1]


def _ids(options: _Options, name: str) -> Ids | None:
    value = options.only(name)
    if value is None:
        return None
    low, _, high = value.partition("-")
    return int(low), int(high or low)


def _selected_network(options: _Options, name: str) -> Selection[Network] | None:
    found = options.all(name)
    return among_networks([ip_network(found[0][0])], negated=found[0][1]) if found else None


def _selected_interface(options: _Options, name: str) -> Selection[str] | None:
    found = options.all(name)
    return among([found[0][0]], negated=found[0][1]) if found else None


def _selected_marks(options: _Options, name: str) -> Selection[int] | None:
    found = options.all(name)
    return among((_mark(value) for value, _ in found), negated=found[0][1]) if found else None


def _selected_ports(options: _Options, one: str, many: str) -> Selection[Ports] | None:
    found = options.all(one) + options.all(many)
    pieces = [piece for value, _ in found for piece in value.split(",")]
    return among_ports((_ports(piece) for piece in pieces), negated=found[0][1]) if found else None


def _ports(piece: str) -> Ports:
    first, colon, last = piece.partition(":")
    return Ports(int(first), int(last if colon else first))
