"""The plan for packets that come in: to the operator's proxy, or by a virtual interface as outbound traffic.

`in-divert` looks at every packet, `in-nat` at the first of each connection; `out-divert` brings answers back to a
transparent proxy. Called by `plan.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshdns.capture.policy.ruleset import (
    ConnectionState,
    Drop,
    Match,
    Redirect,
    Rule,
    SetConnectionMark,
    SetMark,
    TransparentProxy,
    among,
    among_networks,
    among_ports,
)
from meshdns.capture.policy.spec import ALL_PORTS, CaptureSpec, Family, Ports
from meshdns.capture.policy.terms import DIGIT, LO, TCP, TCP_AND_UDP, alone, by_family, lookups, outbound
from meshdns.capture.values import replace


def in_divert(spec: CaptureSpec) -> Iterator[Rule]:
    """Yield the rules that drop what conntrack calls invalid, and that hand connections over by TPROXY."""
    if spec.exclude_interfaces and (spec.drop_invalid or spec.tproxy):
        match = Match(in_interface=among(spec.exclude_interfaces))
        yield alone("in-divert-exclude-interface", "--exclude-interface", match)
    if spec.drop_invalid:
        yield from _in_drop(spec)
    if spec.tproxy:
        yield from _in_tproxy(spec)


def _in_drop(spec: CaptureSpec) -> Iterator[Rule]:
    for family in spec.families:
        yield Rule(
            f"in-drop-invalid-{DIGIT[family]}",
            "a packet that conntrack cannot place would reach the application untranslated",
            Match(family=family, state=ConnectionState.INVALID),
            Drop(),
        )


def _in_tproxy(spec: CaptureSpec) -> Iterator[Rule]:
    """Hand new connections to the proxy's listener with their addresses as they are.

    Only what begins a connection is handed over, so that connections from before the installation, and answers to this
    machine's own, go where they went. What the machine sends itself never loops: it comes in by lo.
    """
    for family in spec.families:
        why = "the proxy calls the application by its client's address: the answers are to find it"
        marked = Match(family=family, in_interface=LO, protocols=TCP, mark=among([spec.tproxy_mark]))
        yield Rule(f"in-tproxy-keep-{DIGIT[family]}", why, marked, SetConnectionMark(spec.tproxy_mark))
    yield alone("in-tproxy-lo", "this machine's own packet, the proxy's among them", Match(in_interface=LO))
    if spec.virtual_interfaces:
        virtual = Match(in_interface=among(spec.virtual_interfaces))
        yield alone("in-tproxy-virtual", "what enters by a virtual interface is not inbound", virtual)
    yield from _not_inbound(spec, "in-tproxy")
    for family in spec.families:
        why = "a connection that the proxy has: routing is to keep it on this machine"
        match = _with_ports(Match(family=family, protocols=TCP, transparent=True), spec.inbound_ports)
        yield Rule(f"in-tproxy-divert-{DIGIT[family]}", why, match, SetMark(spec.tproxy_mark))
    for family in spec.families:
        match = replace(_to_inbound(spec, family), syn=True)
        action = TransparentProxy(spec.inbound_port, spec.tproxy_mark)
        yield Rule(f"in-tproxy-{DIGIT[family]}", "inbound TCP that is captured, its addresses kept", match, action)
        # iptables drops it by itself where no socket listens, nft lets it pass: it must not pass the proxy by.
        yield Rule(f"in-tproxy-nobody-{DIGIT[family]}", "no proxy listens on the inbound port", match, Drop())


def out_divert(spec: CaptureSpec) -> Iterator[Rule]:
    """Yield the rules that lead an application's answers to a proxy that called by its client's address, as Envoy may.

    They are addressed to that client, and would leave by the default route.
    """
    for family in spec.families if spec.tproxy else ():
        why = "an answer to the proxy, which called by its client's address: routing is to keep it on this machine"
        match = Match(family=family, protocols=TCP, connection_mark=among([spec.tproxy_mark]))
        yield Rule(f"out-tproxy-{DIGIT[family]}", why, match, SetMark(spec.tproxy_mark))


def in_nat(spec: CaptureSpec) -> Iterator[Rule]:
    """Yield the rules that redirect: what enters by a virtual interface, and without TPROXY what is inbound."""
    redirects = spec.inbound_ports and not spec.tproxy
    if not (redirects or spec.virtual_interfaces):
        return
    if spec.exclude_interfaces:
        match = Match(in_interface=among(spec.exclude_interfaces))
        yield alone("in-exclude-interface", "--exclude-interface", match)
    if spec.virtual_interfaces:
        yield from _in_virtual(spec)
    if redirects:
        yield from _inbound(spec)


def _in_virtual(spec: CaptureSpec) -> Iterator[Rule]:
    """Treat what enters by a virtual interface as outbound traffic of the machine behind it."""
    virtual = among(spec.virtual_interfaces)
    for rule in _virtual_rules(spec):
        yield replace(rule, match=replace(rule.match, in_interface=virtual))
    yield alone("in-virtual", "what enters by a virtual interface is not inbound", Match(in_interface=virtual))


def _virtual_rules(spec: CaptureSpec) -> Iterator[Rule]:
    if spec.exclude_outbound_ports:
        ports = among_ports(spec.exclude_outbound_ports)
        match = Match(protocols=TCP_AND_UDP, destination_ports=ports)
        yield alone("in-virtual-exclude-port", "--exclude-outbound-ports", match)
    if spec.dns:
        for name, match in lookups(spec, TCP_AND_UDP):
            if match.out_interface is None:
                why = "a lookup from behind a virtual interface"
                yield Rule(f"in-virtual-dns-{name}", why, replace(match, alive=True), Redirect(spec.dns_port))
    for family, excluded in by_family(spec, spec.exclude_outbound_cidrs):
        match = Match(family=family, destination=among_networks(excluded))
        yield alone(f"in-virtual-exclude-cidr-{DIGIT[family]}", "--exclude-outbound-cidr", match)
    for name, match in outbound(spec):
        why = "a connection from behind a virtual interface"
        yield Rule(f"in-virtual-{name}", why, replace(match, alive=True), Redirect(spec.outbound_port))


def _inbound(spec: CaptureSpec) -> Iterator[Rule]:
    yield from _not_inbound(spec, "in")
    for family in spec.families:
        match = _to_inbound(spec, family)
        yield Rule(f"in-capture-{DIGIT[family]}", "inbound TCP that is captured", match, Redirect(spec.inbound_port))


def _not_inbound(spec: CaptureSpec, prefix: str) -> Iterator[Rule]:
    tunnel = Match(protocols=TCP, destination_ports=among_ports([Ports(spec.tunnel_port, spec.tunnel_port)]))
    yield alone(f"{prefix}-tunnel", "the proxy listens on the tunnel port itself", tunnel)
    if spec.exclude_inbound_ports:
        match = Match(protocols=TCP, destination_ports=among_ports(spec.exclude_inbound_ports))
        yield alone(f"{prefix}-exclude-port", "--exclude-inbound-ports", match)


def _to_inbound(spec: CaptureSpec, family: Family) -> Match:
    # What only passes through this machine is nobody's inbound traffic.
    return _with_ports(Match(family=family, local=True, protocols=TCP), spec.inbound_ports)


def _with_ports(match: Match, ports: tuple[Ports, ...]) -> Match:
    selected = among_ports(ports)
    return match if selected.values == (ALL_PORTS,) else replace(match, destination_ports=selected)
