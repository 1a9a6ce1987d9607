"""What the lints tell of names that are allowed and yet not what people expect, and where they keep silent."""

# ruff: noqa: E501 - a row is what is written and the lines that come of it

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

import pytest

from meshdns.resolver.source.entry import Entry
from meshdns.resolver.source.read import Outcome, read
from meshdns.resolver.table.allocate import allocate
from meshdns.resolver.table.lint import lint
from meshdns.resolver.table.pools import Pools
from meshdns.resolver.table.scope import Scope

POOLS = Pools(IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48"))
SEARCH = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
NOTES = {"L008", "L014"}


def entry(name: str, spec: str, meta: str = "", namespace: str = "default") -> str:
    return (
        f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
        f"metadata: {{name: {name}, namespace: {namespace}{meta}}}\nspec: {{{spec}}}\n"
    )


def service(name: str, spec: str = "clusterIP: 10.96.0.7") -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {{{spec}}}\n"


def told(*documents: str, auto_allocate: bool = True) -> list[str]:
    """Return what is told about one file of these documents: `rule line field: reason`."""
    outcomes = list(read("---\n".join(documents).encode(), "a.yaml", "default"))
    entries: list[Entry] = [each.entry for each in outcomes if isinstance(each, Outcome) and each.entry]
    assert len(entries) == len(documents)
    leases = allocate(entries if auto_allocate else [], POOLS, (), 0).leases
    scope = Scope("default", "cluster.local", SEARCH, (POOLS.v4, POOLS.v6), 30, 5, "probe.meshdns.invalid", 1)
    found = sorted(lint(entries, leases, scope, POOLS), key=lambda problem: (problem.line, problem.rule))
    return [f"{problem.rule} {problem.line} {problem.field}: {problem.reason}" for problem in found]


IP = "addresses: [192.0.2.1]"


@dataclass(frozen=True)
class Case:
    """Documents of one file, and how the lines that are told of them begin; notes only where `notes` says so."""

    name: str
    documents: tuple[str, ...]
    lines: tuple[str, ...] = ()
    notes: bool = False


CASES = [
    Case("an address is answered", (entry("a", f"hosts: [a.x], {IP}"),)),
    Case("a lease is answered", (entry("a", "hosts: [a.x], resolution: DNS"),)),
    Case("resolution NONE", (entry("a", "hosts: [a.x]"),), ("L003 1 spec.hosts[0]: no answer for a.x: resolution NONE without addresses",)),
    Case("opted out", (entry("a", "hosts: [a.x], resolution: DNS", ", labels: {networking.istio.io/enable-autoallocate-ip: 'false'}"),),
         ('L003 1 spec.hosts[0]: no answer for a.x: its label networking.istio.io/enable-autoallocate-ip is "false"',)),
    Case("a wildcard gets no lease", (entry("a", "hosts: ['*.a.x'], resolution: STATIC"),), ("L003 1 spec.hosts[0]: no answer for *.a.x: a wildcard gets no lease",)),
    Case("only the host that is not answered", (entry("a", "hosts: [b.x, '*.a.x'], resolution: STATIC"),), ("L003 1 spec.hosts[1]: no answer for *.a.x",)),
    Case("nothing is selected", (entry("a", "hosts: [a.x], workloadSelector: {labels: {app: a}}"),), ("L003 1 spec.hosts[0]: no answer for a.x: no WorkloadEntry",)),
    Case("headless without endpoints", (service("s", "clusterIP: None"),), ("L003 1 : no answer for s.default.svc.cluster.local: it is headless and has no ready endpoint",)),
    Case("an entry that adds nothing", (entry("a", f"hosts: [a.x], {IP}"), entry("b", "hosts: [a.x]")), ("L003 6 spec.hosts[0]: adds no address to a.x: resolution NONE",)),
    Case("blocks alone", (entry("a", "hosts: [a.x, b.x], addresses: [192.0.2.0/24]"),), ("L004 1 spec.hosts[0]: no answer for a.x", "L004 1 spec.hosts[1]: no answer for b.x")),
    Case("a block beside an address", (entry("a", "hosts: [a.x], addresses: [192.0.2.0/24, 192.0.2.1]"),)),
    Case("under the cluster domain", (entry("a", f"hosts: [s.p.svc.cluster.local, cluster.local, notcluster.local], {IP}"),), ("L005 1 spec.hosts[0]: s.p.svc.cluster.local lies in the cluster domain", "L005 1 spec.hosts[1]: cluster.local lies")),
    Case("a wildcard of a namespace", (entry("a", f"hosts: ['*.shop.svc.cluster.local'], {IP}"),), ("L005 1 spec.hosts[0]: *.shop.svc.cluster.local lies",)),
    Case("wildcards over the cluster domain", (entry("a", f"hosts: ['*.local', '*.cluster.local', '*.svc.cluster.local', '*.internal'], {IP}"),),
         ("L006 1 spec.hosts[0]: *.local covers", "L006 1 spec.hosts[1]: *.cluster.local covers", "L006 1 spec.hosts[2]: *.svc.cluster.local covers")),
    Case("a wildcard answers for a host without answer", (entry("a", "hosts: [b.a.x]"), entry("w", f"hosts: ['*.x', '*.a.x'], {IP}")),
         ("L003 1", "L007 1 spec.hosts[0]: b.a.x has no answer of its own, so that *.a.x answers it: ServiceEntry default/w (a.yaml:6)")),
    Case("a wildcard beside a host with an answer", (entry("a", f"hosts: [b.a.x], {IP}"), entry("w", f"hosts: ['*.a.x'], {IP}"))),
    Case("a wildcard is no host of itself", (entry("a", "hosts: [a.x]"), entry("w", f"hosts: ['*.a.x'], {IP}")), ("L003 1",)),
    Case("a lease hides ports", (entry("a", "hosts: [a.x], resolution: DNS, ports: [{name: a, number: 80}]"),),
         ("L008 1 spec.hosts[0]: the leased address (240.240.0.1 at a first start) hides the ports of a.x that are not declared (declared: 80)",), notes=True),
    Case("a lease without ports hides all", (entry("a", "hosts: [a.x], resolution: DNS"),), ("L008 1 spec.hosts[0]: the leased address (240.240.0.1 at a first start) hides the ports of a.x that are not declared (none is)",), notes=True),
    Case("an address hides nothing", (entry("a", f"hosts: [a.x], {IP}, ports: [{{name: a, number: 53, protocol: UDP}}]"),), notes=True),
    Case("UDP at a lease", (entry("a", "hosts: [a.x], resolution: DNS, ports: [{name: t, number: 53, protocol: TCP}, {name: d, number: 54, protocol: UDP}]"),),
         ("L009 1 spec.ports[1].protocol: UDP port 54 of a.x cannot be reached at its leased address (240.240.0.1 at a first start)",)),
    Case("addresses in the pools", (entry("a", "hosts: [a.x], addresses: [240.240.3.4, 240.241.0.1, '2001:2::7']"), entry("b", "hosts: [b.x], resolution: STATIC, endpoints: [{address: 240.240.3.5}]"), service("s", "clusterIP: 240.240.3.6")),
         ("L010 1 spec.addresses[0]: 240.240.3.4 lies in the pool 240.240.0.0/16", "L010 1 spec.addresses[2]: 2001:2::7 lies in the pool 2001:2::/48", "L010 6 spec.endpoints[0].address: 240.240.3.5 lies", "L010 11 spec.clusterIPs[0]: 240.240.3.6 lies")),
    Case("a block over a pool", (entry("a", "hosts: [a.x], addresses: [240.0.0.0/4, 192.0.2.1]"),), ("L010 1 spec.addresses[0]: 240.0.0.0/4 lies in the pool",)),
    Case("Istio's own allocation", ("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.x], resolution: DNS}\nstatus: {addresses: [{host: a.x, value: 240.240.0.9}]}\n",)),
    Case("resolutions", (entry("a", "hosts: [a.x], resolution: DNS"), entry("b", "hosts: [a.x], resolution: STATIC")), ("L011 6 spec.hosts[0]: a.x has resolution STATIC, but DNS in ServiceEntry default/a (a.yaml:1)",)),
    Case("a lease beside addresses", (entry("a", "hosts: [a.x], resolution: DNS"), entry("b", f"hosts: [a.x], resolution: DNS, {IP}")), ("L011 6 spec.hosts[0]: a.x has addresses of its own, but that are leased in",)),
    Case("times to live", (entry("a", f"hosts: [a.x], {IP}", ", annotations: {meshdns.io/ttl: '9'}"), entry("b", f"hosts: [a.x], {IP}")), ("L011 6 spec.hosts[0]: a.x has a time to live as everybody, but of 9 s in",)),
    Case("target ports", (entry("a", f"hosts: [a.x], {IP}, ports: [{{name: a, number: 80, targetPort: 8080}}, {{name: b, number: 81}}]"), entry("b", f"hosts: [a.x], {IP}, ports: [{{name: a, number: 80}}]")), ("L011 6 spec.hosts[0]: a.x has targetPort 80 of port 80, but 8080 of port 80 in",)),
    Case("entries that agree", (entry("a", f"hosts: [a.x], {IP}, ports: [{{name: a, number: 80}}]"), entry("b", f"hosts: [a.x], {IP}, ports: [{{name: b, number: 81}}]"))),
    Case("a Service has the host", (service("s"), entry("a", f"hosts: [s, s.default], {IP}")), ("L012 6 spec.hosts[0]: s is answered from Service default/s (a.yaml:1): a Kubernetes Service comes before", "L012 6 spec.hosts[1]: s.default is")),
    Case("another namespace has the host", (entry("a", f"hosts: [a.x], {IP}", namespace="shop"), entry("b", f"hosts: [a.x], {IP}")), ("L012 1 spec.hosts[0]: a.x is answered from ServiceEntry default/b (a.yaml:6): our own namespace default comes first",)),
    Case("an annotation, once for all hosts", (entry("a", f"hosts: [a.x, b.x], {IP}", ", annotations: {meshdns.io/ttl: 1m, meshdns.io/families: v4}"),),
         ("L013 1 metadata.annotations['meshdns.io/ttl']: meshdns.io/ttl '1m' is no number", "L013 1 metadata.annotations['meshdns.io/families']: meshdns.io/families 'v4' is none of")),
    Case("not exported to us", (entry("a", f"hosts: [a.x], {IP}, exportTo: [.]", namespace="shop"),), ("L014 1 spec.hosts[0]: a.x is not exported to namespace default",), notes=True),
    Case("not exported, and somebody else's", (entry("a", f"hosts: [a.x], {IP}, exportTo: [.]", namespace="shop"), entry("b", f"hosts: [a.x], {IP}")), notes=True),
    Case("nothing", ()),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_lint(case: Case) -> None:
    """These documents are told in these words, and nothing else is told of them."""
    found = [line for line in told(*case.documents) if case.notes or line.split()[0] not in NOTES]
    assert len(found) == len(case.lines), found
    for line, beginning in zip(found, case.lines, strict=True):
        assert line.startswith(beginning)


def test_every_host_that_gets_no_lease_is_told() -> None:
    """With auto-allocation off a host that would have a lease has no answer, and that is told."""
    (line,) = told(entry("a", "hosts: [a.x], resolution: DNS"), auto_allocate=False)
    assert (
        line
        == "L003 1 spec.hosts[0]: no answer for a.x: it has no lease: auto-allocation is off, or the pool is used up"
    )
