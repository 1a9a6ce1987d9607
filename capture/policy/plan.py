"""CaptureSpec -> RuleSet: the only place where policy lives. Dialects write these rules down, the simulator walks them.

A packet that leaves a local process passes `zone` and `nat`, which capture it, and `rest`, which refuses what must not
leave. All three begin with the same exemptions, so that a packet that is left alone is left alone fully:

1. an excluded interface or port, 2. a proxy's pass-through source, 3. the proxy itself, 5. an excluded owner;
6. port 53 to a captured server, 4. whatever else stays on this machine, 7. outbound TCP, 8. what is refused.

(Step 4 is checked after 6, where it needs no exception for a captured server on loopback: that saves rules and changes
no packet's fate.) `beat-out` and `beat-in` are the dead-man's switch: they mark an empty datagram of the proxy's, and
nobody else's, on its way out and count it on its way in, after every filter, so that it proves the way in as well. What
comes in from outside is planned in `inbound.py`, in the same terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from meshdns.capture.policy.inbound import in_divert, in_nat, out_divert
from meshdns.capture.policy.ruleset import (
    Beat,
    Chain,
    ConnectionState,
    Count,
    Hook,
    Match,
    Redirect,
    Refuse,
    Reset,
    Rule,
    RuleSet,
    SetMark,
    SetZone,
    Stage,
    among,
    among_networks,
    among_ports,
)
from meshdns.capture.policy.spec import CaptureSpec, Family, Network, OnResolverDown, PoolRest, Ports
from meshdns.capture.policy.terms import (
    DIGIT,
    DNS,
    LISTENER,
    LO,
    LOOPBACK,
    PASS_THROUGH,
    TCP,
    TCP_AND_UDP,
    UDP,
    alone,
    by_family,
    lookups,
    outbound,
)
from meshdns.capture.values import replace

EMPTY_DATAGRAM_BYTES: Final = 8
"""A UDP header and nothing behind it (RFC 768)."""


@lru_cache(maxsize=4)
def plan(spec: CaptureSpec) -> RuleSet:
    """Return the rules that do what `spec` says. The same spec gives the same rules."""
    chains = (
        Chain("beat-out", Hook.OUTPUT, Stage.MARK, tuple(_beat_out(spec))),
        Chain("beat-in", Hook.INPUT, Stage.COUNT, tuple(_beat_in(spec))),
        Chain("zone", Hook.OUTPUT, Stage.ZONE, tuple(_zone(spec))),
        Chain("out-divert", Hook.OUTPUT, Stage.DIVERT, tuple(out_divert(spec))),
        Chain("nat", Hook.OUTPUT, Stage.TRANSLATE, tuple(_nat(spec))),
        Chain("rest", Hook.OUTPUT, Stage.REFUSE, tuple(_rest(spec))),
        Chain("in-divert", Hook.PREROUTING, Stage.DIVERT, tuple(in_divert(spec))),
        Chain("in-nat", Hook.PREROUTING, Stage.TRANSLATE, tuple(in_nat(spec))),
    )
    return RuleSet(spec.families, tuple(chain for chain in chains if chain.rules))


def _beat_out(spec: CaptureSpec) -> Iterator[Rule]:
    yield from _beat_unmarked(spec)
    for family in spec.families:
        yield Rule(
            f"beat-mark-{DIGIT[family]}",
            "the proxy's empty datagram to the DNS port is its heartbeat",
            replace(_beat(spec), family=family, out_interface=LO, uid=among(spec.proxy_uids)),
            SetMark(spec.heartbeat_mark),
        )


def _beat_unmarked(spec: CaptureSpec) -> Iterator[Rule]:
    """Take the heartbeat's mark away from what its sender has marked so: to set a mark one need not be the proxy."""
    marked = among([spec.heartbeat_mark])
    for family in spec.families:
        yield Rule(
            f"beat-unmark-{DIGIT[family]}",
            "that it bears the heartbeat's mark already makes no heartbeat of a datagram",
            replace(_beat(spec), family=family, out_interface=LO, mark=marked),
            SetMark(0),
        )
    if spec.dns and spec.proxy_mark != spec.heartbeat_mark:  # what bears the proxy's mark is never redirected
        for name, match in lookups(spec, UDP):
            yield Rule(
                f"beat-unmark-dns-{name}",
                "an empty datagram to a captured nameserver would get to the DNS port by the redirect",
                replace(match, udp_length=EMPTY_DATAGRAM_BYTES, mark=marked),
                SetMark(0),
            )


def _beat_in(spec: CaptureSpec) -> Iterator[Rule]:
    arrived = replace(_beat(spec), in_interface=LO, mark=among([spec.heartbeat_mark]))
    for family in spec.families:
        yield Rule(
            f"beat-opens-{DIGIT[family]}",
            "counts how often the switch opened",
            replace(arrived, family=family, alive=False),
            Count(),
        )
    for family in spec.families:
        yield Rule(
            f"beat-{DIGIT[family]}",
            "a heartbeat that came through every filter keeps the redirect open",
            replace(arrived, family=family),
            Beat(spec.heartbeat_timeout_s),
        )


def _beat(spec: CaptureSpec) -> Match:
    return Match(
        protocols=UDP,
        destination_ports=among_ports([Ports(spec.dns_port, spec.dns_port)]),
        udp_length=EMPTY_DATAGRAM_BYTES,
    )


def _zone(spec: CaptureSpec) -> Iterator[Rule]:
    """Keep a captured lookup apart from a lookup of the proxy's own that happens to use the same ports."""
    if not (spec.dns and spec.dns_servers):
        return
    for family in spec.families:
        # Never by owner: a listener that systemd opened and handed over belongs to root.
        yield Rule(
            f"zone-answer-{DIGIT[family]}",
            "the resolver's answers belong to the flows that were redirected to it",
            Match(
                family=family,
                out_interface=LO,
                protocols=UDP,
                source=among_networks([LISTENER[family]]),
                source_ports=among_ports([Ports(spec.dns_port, spec.dns_port)]),
            ),
            SetZone(spec.ct_zone),
        )
    yield from _left_alone(spec, "zone")
    for name, match in lookups(spec, UDP):
        yield Rule(
            f"zone-dns-{name}", "this lookup will be redirected", replace(match, alive=True), SetZone(spec.ct_zone)
        )


def _nat(spec: CaptureSpec) -> Iterator[Rule]:
    yield from _left_alone(spec, "nat")
    if spec.dns:
        for name, match in lookups(spec, TCP_AND_UDP):
            why = "port 53 of a captured nameserver, and the resolver is alive"
            yield Rule(f"nat-dns-{name}", why, replace(match, alive=True), Redirect(spec.dns_port))
    yield from _not_outbound(spec, "nat")
    for name, match in outbound(spec):
        why = "outbound TCP that is captured, and the relay is alive"
        yield Rule(f"nat-{name}", why, replace(match, alive=True), Redirect(spec.outbound_port))


def _rest(spec: CaptureSpec) -> Iterator[Rule]:
    """Addresses here are those after translation: what was captured goes to loopback and meets none of these."""
    closed = spec.on_resolver_down is OnResolverDown.CLOSED
    refused = [*(_closed_lookups(spec) if closed else ())]
    outbound = [*(_closed_outbound(spec) if closed else ()), *_pool_rest(spec)]
    if refused or outbound:
        yield from _left_alone(spec, "rest")
        yield from refused
    if outbound:
        yield from _not_outbound(spec, "rest")
        yield from outbound


def _closed_lookups(spec: CaptureSpec) -> Iterator[Rule]:
    if not spec.dns:
        return
    why = "the resolver is down, and captured lookups are to fail rather than leave"
    for protocols, action, kind in ((TCP, Reset(), "tcp"), (UDP, Refuse(), "udp")):
        for name, match in lookups(spec, protocols):
            yield Rule(f"rest-dns-{kind}-{name}", why, replace(match, alive=False), action)


def _closed_outbound(spec: CaptureSpec) -> Iterator[Rule]:
    for name, match in outbound(spec):
        why = "the relay is down, and captured connections are to fail rather than leave"
        # Only what begins a connection: replies of a local server to somebody outside leave here too.
        yield Rule(f"rest-{name}", why, replace(match, alive=False, state=ConnectionState.NEW), Reset())


def _pool_rest(spec: CaptureSpec) -> Iterator[Rule]:
    if spec.pool_rest is PoolRest.DIRECT:
        return
    for family, pools in by_family(spec, spec.pools):
        to_pool = Match(family=family, destination=among_networks(pools))
        why = "only captured TCP reaches an allocated address; refusing it saves the client its timeout"
        yield Rule(f"rest-pool-tcp-{DIGIT[family]}", why, replace(to_pool, protocols=TCP), Reset())
        yield Rule(f"rest-pool-{DIGIT[family]}", why, to_pool, Refuse())


def _left_alone(spec: CaptureSpec, chain: str) -> Iterator[Rule]:
    """Yield steps 1, 2, 3 and 5: who and what no chain touches."""
    if spec.exclude_interfaces:
        yield alone(
            f"{chain}-exclude-interface", "--exclude-interface", Match(out_interface=among(spec.exclude_interfaces))
        )
    if spec.exclude_outbound_ports:
        ports = among_ports(spec.exclude_outbound_ports)
        match = Match(protocols=TCP_AND_UDP, destination_ports=ports)
        yield alone(f"{chain}-exclude-port", "--exclude-outbound-ports", match)
    for family in spec.families:
        match = Match(family=family, out_interface=LO, source=among_networks([PASS_THROUGH[family]]))
        yield alone(f"{chain}-pass-through-{DIGIT[family]}", "a proxy's own connection to the application", match)
    if chain == "nat" and spec.inbound_ports:
        yield from _hairpin(spec)
    for kind, match in _proxy(spec):
        yield alone(f"{chain}-proxy-{kind}", "traffic of the proxy itself", match)
    if spec.exclude_uids:
        yield alone(f"{chain}-exclude-uid", "--exclude-uid", Match(uid=among(spec.exclude_uids)))
    if spec.exclude_owner_groups:
        yield alone(f"{chain}-exclude-group", "--exclude-owner-group", Match(gid=among(spec.exclude_owner_groups)))
    if spec.owner_groups is not None:
        outside = Match(gid=among(spec.owner_groups, negated=True))
        yield alone(f"{chain}-other-group", "not in a group of --owner-group", outside)


def _hairpin(spec: CaptureSpec) -> Iterator[Rule]:
    """Send what the proxy has for this machine's own address through its inbound side, as if it came from outside."""
    not_these = among_ports([DNS, Ports(spec.tunnel_port, spec.tunnel_port)], negated=True)
    for kind, identity in _proxy(spec):
        # What the proxy sends by its client's address bears the mark, and has been through its inbound side.
        unmarked = among([spec.tproxy_mark], negated=True) if spec.tproxy else None
        for family in spec.families:
            match = replace(
                identity,
                mark=identity.mark or unmarked,
                family=family,
                out_interface=LO,
                destination=among_networks([LOOPBACK[family]], negated=True),
                protocols=TCP,
                destination_ports=not_these,
            )
            why = "the proxy calls an application of this machine: to its inbound side"
            yield Rule(f"nat-hairpin-{kind}-{DIGIT[family]}", why, match, Redirect(spec.inbound_port))


def _proxy(spec: CaptureSpec) -> Iterator[tuple[str, Match]]:
    """Yield the one predicate for "from the proxy": any of its users, of its groups, or its mark."""
    yield "uid", Match(uid=among(spec.proxy_uids))
    if spec.proxy_gids:
        yield "gid", Match(gid=among(spec.proxy_gids))
    if spec.proxy_mark is not None:
        yield "mark", Match(mark=among([spec.proxy_mark]))


def _not_outbound(spec: CaptureSpec, chain: str) -> Iterator[Rule]:
    """Yield steps 4 and 7: what stays on this machine, and excluded networks."""
    for family in spec.families:
        if not any(_is_loopback(cidr) and Family.of(cidr) is family for cidr in spec.outbound_cidrs):
            to_lo = Match(family=family, out_interface=LO)
            yield alone(f"{chain}-local-{DIGIT[family]}", "stays on this machine", to_lo)
            loopback = Match(family=family, destination=among_networks([LOOPBACK[family]]))
            yield alone(f"{chain}-loopback-{DIGIT[family]}", "a loopback address", loopback)
    for family, excluded in by_family(spec, spec.exclude_outbound_cidrs):
        match = Match(family=family, destination=among_networks(excluded))
        yield alone(f"{chain}-exclude-cidr-{DIGIT[family]}", "--exclude-outbound-cidr", match)


def _is_loopback(network: Network) -> bool:
    loopback = LOOPBACK[Family.of(network)]
    return network.prefixlen >= loopback.prefixlen and network.network_address in loopback
