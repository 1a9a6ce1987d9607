"""Following live packets through the rules: nft's trace, told in our rule ids.

A second table marks the packets to follow, and nft prints each rule that they meet (nft(8), MONITOR). A rule is known
by its handle. In nft's own rules the listing gives the comment; rules of iptables-nft show theirs in iptables-save
only, where they stand in the same order. The second table lives as long as the command, and `uninstall` removes it too.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final

from meshdns.capture.dialects.nft.render import TRACE_NAME, rule_text
from meshdns.capture.errors import ApplyError, PreflightError
from meshdns.capture.policy.ruleset import (
    Count,
    LeaveAlone,
    Match,
    Protocol,
    Redirect,
    Rule,
    SetZone,
    among,
    among_networks,
    among_ports,
)
from meshdns.capture.policy.spec import Address, CaptureSpec, Family, Ports
from meshdns.capture.policy.terms import DNS, LO, TCP_AND_UDP
from meshdns.capture.system.runner import run
from meshdns.capture.system.stream import stream

TABLE: Final = f"inet {TRACE_NAME}"
TRACED: Final = frozenset({"nft", "iptables-nft"})
"""Backends whose rules nf_tables holds."""
PRIORITY: Final = -302
"""Before the first of our own chains."""
SAVERS: Final = {"ip": "iptables-nft-save", "ip6": "ip6tables-nft-save"}
DROPS: Final = ("drop", "reject")

Handles = Mapping[tuple[str, str], str]
"""(`family table chain`, handle) -> rule id."""

_EVENT: Final = re.compile(r"trace id (\w+) (\w+ \S+) (\S+) (packet:|rule|policy) ?(.*)")
_HANDLE: Final = re.compile(r"# handle (\d+) \(verdict (\w+)")
_COMMENT: Final = re.compile(r'comment "([a-z0-9-]+)"')
_SAVED_ID: Final = re.compile(r"--comment (\S+)")
_HEADER: Final = re.compile(
    r'(?:iif "(?P<iif>[^"]*)" )?(?:oif "(?P<oif>[^"]*)" )?.*?ip6? saddr (?P<source>\S+) ip6? daddr (?P<destination>\S+)'
)
_PORTS: Final = re.compile(r"(tcp|udp) sport (\d+) \w+ dport (\d+)")


@dataclass(frozen=True, slots=True)
class Interest:
    """Which packets to follow; None: lookups, and whatever goes to the pools."""

    match: Match | None = None


PACKETS_KNOWN: Final = 4096
"""How many packets are remembered as introduced, so that a trace of days stays small."""


def table_text(spec: CaptureSpec, interest: Interest) -> str:
    """Return what nft reads to mark the packets of interest, on their way out and on their way in."""
    going_out = list(_matches(spec, interest))
    # What comes by lo has been followed on its way out, and what comes by another interface has no owner.
    coming_in = [replace(match, in_interface=replace(LO, negated=True)) for match in going_out if not match.uid]
    lines = [f"add table {TABLE}", f"delete table {TABLE}", f"add table {TABLE}"]
    for hook, matches in (("output", going_out), ("prerouting", coming_in)):
        lines.append(f"add chain {TABLE} {hook} {{ type filter hook {hook} priority {PRIORITY}; policy accept; }}")
        questions = (rule_text(Rule("trace", "", match, Count())) for match in matches)
        lines += [f"add rule {TABLE} {hook} {question} meta nftrace set 1" for question in questions]
    return "".join(f"{line}\n" for line in lines)


def _matches(spec: CaptureSpec, interest: Interest) -> Iterator[Match]:
    if interest.match:
        yield interest.match
        return
    yield Match(protocols=TCP_AND_UDP, destination_ports=among_ports([DNS]))
    for family in spec.families:
        pools = [pool for pool in spec.pools if Family.of(pool) is family]
        if pools:
            yield Match(family=family, destination=among_networks(pools))


def interest_in(
    *, uid: int | None, protocol: Protocol | None, destination: Address | None, port: int | None
) -> Interest:
    """Return the interest in packets of whom, over what, to whom and which port; None: that is not asked."""
    network = ip_network(destination) if destination else None
    if all(question is None for question in (uid, protocol, network, port)):
        return Interest()
    return Interest(
        Match(
            family=Family.of(network) if network else None,
            destination=among_networks([network]) if network else None,
            protocols=(protocol,) if protocol else TCP_AND_UDP,
            destination_ports=None if port is None else among_ports([Ports(port, port)]),
            uid=None if uid is None else among([uid]),
        )
    )


def follow(backend: str, spec: CaptureSpec, rules: Iterable[Rule], interest: Interest, stop: int) -> Generator[str]:
    """Yield a line for each packet of interest and each of our rules that it meets, until `stop` is readable."""
    if backend not in TRACED:
        raise PreflightError(f"cannot trace packets: {backend} keeps its rules outside nf_tables: use `explain`")
    _load(table_text(spec, interest))
    try:
        handles = _handles()
        known = {rule.id: rule for rule in rules}
        seen: set[str] = set()
        for line in stream(["nft", "-a", "monitor", "trace"], stop):
            yield from tell(line, handles, known, seen)
    finally:
        remove()


def tell(line: str, handles: Handles, rules: Mapping[str, Rule], seen: set[str]) -> Iterator[str]:
    """Yield what one line of nft's trace says in our words; `seen`: the packets that have been introduced."""
    event = _EVENT.match(line)
    if event is None:
        return
    packet, table, chain, kind, rest = event.groups()
    if kind == "packet:" and packet not in seen:
        if len(seen) >= PACKETS_KNOWN:
            seen.clear()  # some packet under way is introduced a second time
        seen.add(packet)
        yield f"{packet} {_introduce(rest)}"
    if kind != "rule" or table == TABLE:
        return
    found = _HANDLE.search(rest)
    handle, verdict = found.groups() if found else ("", "")
    rule = rules.get(handles.get((f"{table} {chain}", handle), ""))
    if rule:
        yield f"{packet}   {rule.id}: {_effect(rule, verdict)} ({rule.why})"
    elif verdict in DROPS:
        yield f"{packet}   dropped by a rule of somebody else in {table} {chain}"


def remove() -> None:
    """Remove the second table; no error where it is gone already."""
    done = run(["nft", "delete", "table", *TABLE.split()])
    if done.exit_code and "No such file or directory" not in done.errors:
        said = " ".join(done.errors.split()) or f"exit code {done.exit_code}"
        raise ApplyError(f"cannot remove the table {TABLE}, which follows packets: nft says: {said}")


def _load(text: str) -> None:
    done = run(["nft", "-f", "-"], text)
    if "Operation not permitted" in done.errors:
        raise PreflightError("cannot trace packets: CAP_NET_ADMIN is missing: run as root or grant it")
    if done.exit_code:
        raise ApplyError(f"cannot trace packets: nft says: {' '.join(done.errors.split())}")


def _handles() -> Handles:
    listing = run(["nft", "-a", "list", "ruleset"]).output
    savers = SAVERS if "chain MESHDNS_" in listing else {}
    return read_handles(listing, {family: run([saver]).output for family, saver in savers.items()})


def read_handles(listing: str, saved: Mapping[str, str]) -> Handles:
    """Return the rule ids by chain and handle, from `nft -a list ruleset` and what iptables saves of each family."""
    found: dict[tuple[str, str], str] = {}
    ids = {family: _saved_ids(text) for family, text in saved.items()}
    table = chain = ""
    position = 0
    for line in listing.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain, position = words[1], 0
        elif (handle := re.search(r"# handle (\d+)$", line)) and words[0] != "set":
            comment = _COMMENT.search(line)
            in_chain = ids.get(table.split()[0], {}).get(f"{table.split()[1]} {chain}", [])
            if comment:
                found[f"{table} {chain}", handle[1]] = comment[1]
            elif position < len(in_chain):
                found[f"{table} {chain}", handle[1]] = in_chain[position]
            position += 1
    return found


def _saved_ids(text: str) -> dict[str, list[str]]:
    """Return the comments of the rules of each `table chain`, in order."""
    found: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A MESHDNS_"):
            comment = _SAVED_ID.search(line)
            found.setdefault(f"{table} {line.split()[1]}", []).append(comment[1].strip('"') if comment else "")
    return found


def _introduce(header: str) -> str:
    found, ports = _HEADER.match(header), _PORTS.search(header)
    if found is None:
        return header
    source, destination = found["source"], found["destination"]
    way = f"out by {found['oif']}" if found["oif"] else f"in by {found['iif']}"
    if ports is None:
        return f"{source} to {destination}, {way}"
    return f"{ports[1]} {source} port {ports[2]} to {destination} port {ports[3]}, {way}"


def _effect(rule: Rule, verdict: str) -> str:
    match rule.action:
        case Redirect(port):
            return f"redirect {port}"
        case SetZone(zone):
            return f"zone {zone}"
        case LeaveAlone():
            return "left alone"
        case _:
            return verdict
