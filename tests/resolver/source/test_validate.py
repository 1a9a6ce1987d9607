"""Every rule of the catalogue, broken on purpose: a row says what to write, and the lines that must come out."""

# ruff: noqa: E501 - a row is what is written and the line that comes of it

from __future__ import annotations

from dataclasses import dataclass

import pytest

from meshdns.resolver.source import rules
from meshdns.resolver.source.manifest import Break
from meshdns.resolver.source.problem import Level, Problem, Rule
from meshdns.resolver.source.read import Outcome, read

ELSEWHERE = {
    *(f"M{number:03}" for number in range(1, 21)),  # test_manifest, test_read, test_directory
    "SE201",  # test_conflicts
    "L002",  # test_allocate
    *(f"L{number:03}" for number in range(3, 15)),  # test_lint
}
"""Rules that are judged by others than `validate`."""


@dataclass(frozen=True)
class Case:
    """One spec of a ServiceEntry (or a WorkloadEntry), as a YAML flow mapping, and `rule field: reason` of each problem."""

    rules: str
    spec: str
    lines: tuple[str, ...] = ()
    kind: str = "ServiceEntry"
    labels: str = ""


HTTP = "ports: [{number: 80, name: http, protocol: HTTP}]"
TCP = "ports: [{number: 5432, name: db, protocol: TCP}]"
PROTOCOLS = ["tcp", "Udp", "grpc", "GRPC-Web", "http", "http2", "http_proxy", "https", "tls", "mongo", "redis", "MYSQL"]
LONG_LABEL = "a" * 64
LONG_HOST = ".".join(["a" * 60] * 5)


def static(endpoint: str, ports: str = HTTP) -> str:
    return f"hosts: [a.x], {ports}, resolution: STATIC, endpoints: [{endpoint}]"


def dns(rest: str) -> str:
    return f"hosts: [a.x], resolution: DNS, {rest}"


def port(text: str) -> str:
    return f"hosts: [a.x], resolution: DNS, ports: [{text}]"


def dynamic(rest: str = "location: MESH_EXTERNAL", hosts: str = "'*.a.x'") -> str:
    return f"hosts: [{hosts}], resolution: DYNAMIC_DNS, {rest}"


def many(count: int, text: str) -> str:
    return ", ".join(text.replace("%", str(number)) for number in range(count))


CASES = [
    Case("SE001", dns("workloadSelector: {labels: {'': a}}"), ("SE001 spec.workloadSelector.labels['']: a selector's key may not be empty",)),
    Case("SE002", dns("workloadSelector: {labels: {a: '*'}}"), ("SE002 spec.workloadSelector.labels.a: a selector may not hold a wildcard",)),
    Case("SE002", dns("workloadSelector: {labels: {'a*': b}}"), ("SE002 spec.workloadSelector.labels.a*: a selector may not hold a wildcard",)),
    Case("SE003", dns("workloadSelector: {}"), ("SE003 spec.workloadSelector: a selector without labels applies to all workloads of the namespace",)),
    Case("SE004", static("{address: 192.0.2.1}") + ", workloadSelector: {labels: {a: b}}", ("SE004 spec.workloadSelector: only one of workloadSelector and endpoints is allowed",)),
    Case("SE004", dns("endpoints: [], workloadSelector: {labels: {a: b}}"), ("SE004 spec.workloadSelector: only one of workloadSelector and endpoints is allowed",)),
    Case("SE005", HTTP, ("SE005 spec.hosts: there must be at least one host",)),
    Case("SE005", "hosts: []", ("SE005 spec.hosts: there must be at least one host",)),
    Case("SE006", f"hosts: ['*'], {HTTP}", ("SE006 spec.hosts[0]: a host may not be '*'",)),
    Case("SE007", "hosts: ['']", ("SE007 spec.hosts[0]: a host may not be empty",)),
    Case("SE007", f"hosts: [{LONG_HOST}]", (f"SE007 spec.hosts[0]: '{LONG_HOST[:64]}'… has 304 characters: at most 253 are allowed",)),
    Case("SE008", "hosts: [a_b.x]", ("SE008 spec.hosts[0]: 'a_b.x' is not a domain name: label 'a_b'",)),
    Case("SE008", "hosts: [-a.x]", ("SE008 spec.hosts[0]: '-a.x' is not a domain name: label '-a'",)),
    Case("SE008", "hosts: [a..x]", ("SE008 spec.hosts[0]: 'a..x' is not a domain name: label ''",)),
    Case("SE008", "hosts: [a.*.x]", ("SE008 spec.hosts[0]: 'a.*.x' is not a domain name: label '*'",)),
    Case("SE008", "hosts: [a b.x]", ("SE008 spec.hosts[0]: 'a b.x' is not a domain name: label 'a b'",)),
    Case("SE008", "hosts: [bücher.x]", ("SE008 spec.hosts[0]: 'bücher.x' is not a domain name: label 'bücher'",)),
    Case("SE008", f"hosts: [{LONG_LABEL}.x]", (f"SE008 spec.hosts[0]: '{LONG_LABEL}' is not a domain name: label '{LONG_LABEL}'",)),
    Case("SE008", 'hosts: ["a.x\\n"]', ("SE008 spec.hosts[0]: 'a.x\\n' is not a domain name: label 'x\\n'",)),
    Case("SE009", "hosts: [192.0.2.1]", ("SE009 spec.hosts[0]: '192.0.2.1' ends in a label of digits alone",)),
    Case("SE011", "hosts: ['*a.x', '*-b.x']", ("SE011 spec.hosts[0]: '*a.x' is a partial wildcard", "SE011 spec.hosts[1]: '*-b.x' is a partial wildcard")),
    Case("fine hosts", "hosts: [A.Example.COM., localhost, 4.a, '*.a.x', xn--bcher-kva.x]"),
    Case("SE012", f"hosts: [a.x], {HTTP}, addresses: [192.0.2.256]", ("SE012 spec.addresses[0]: '192.0.2.256' is not a valid IP address",)),
    Case("SE012", f"hosts: [a.x], {HTTP}, addresses: ['fe80::1%eth0']", ("SE012 spec.addresses[0]: 'fe80::1%eth0' is not a valid IP address",)),
    Case("SE013", f"hosts: [a.x], {HTTP}, addresses: [192.0.2.0/33]", ("SE013 spec.addresses[0]: '192.0.2.0/33' is not a valid CIDR block",)),
    Case("SE013", f"hosts: [a.x], {HTTP}, addresses: [192.0.2.0/255.255.255.0]", ("SE013 spec.addresses[0]: '192.0.2.0/255.255.255.0' is not a valid CIDR block",)),
    Case("SE013", f"hosts: [a.x], {HTTP}, addresses: [192.0.2.0/24/8]", ("SE013 spec.addresses[0]: '192.0.2.0/24/8' is not a valid CIDR block",)),
    Case("SE014", dns("addresses: [192.0.2.1/32]"), ("SE014 spec.addresses[0]: '192.0.2.1/32': CIDR addresses are not allowed with resolution DNS",)),
    Case("fine blocks", f"{static('{address: 192.0.2.9}')}, addresses: [192.0.2.1/24, '2001:db8::/32']"),
    Case("SE015", port("~"), ("SE015 spec.ports[0]: a port may not be null",)),
    Case("SE016", port("{number: 80, name: a}, {number: 81, name: a}"), ("SE016 spec.ports[1].name: 'a' is already a port's name",)),
    Case("SE017", port("{number: 80, name: a}, {number: 80, name: b}"), ("SE017 spec.ports[1].number: port 80 is already declared",)),
    Case("SE018", port("{number: 80, name: a, targetPort: 65536}"), ("SE018 spec.ports[0].targetPort: 65536 is not a port: 1 to 65535",)),
    Case("SE019", port("{number: 0, name: a}"), ("SE019 spec.ports[0].number: 0 is not a port: 1 to 65535",)),
    Case("SE019", port("{number: -1, name: a}"), ("SE019 spec.ports[0].number: -1 is not a port: 1 to 65535",)),
    Case("M013", port("{number: 80}"), ("M013 spec.ports[0].name: a port must have a name",)),
    Case("M013", port("{name: a}"), ("M013 spec.ports[0].number: a port must have a number",)),
    Case("SE020", port("{number: 80, name: A}"), ("SE020 spec.ports[0].name: 'A' is not a port name",)),
    Case("SE020", port(f"{{number: 80, name: {LONG_LABEL}}}"), (f"SE020 spec.ports[0].name: '{LONG_LABEL}' is not a port name",)),
    Case("SE021", port("{number: 80, name: a, protocol: sctp}"), ("SE021 spec.ports[0].protocol: 'SCTP' is not a protocol",)),
    Case("fine protocols", port(", ".join(f"{{number: {80 + index}, name: p{index}, protocol: {name}}}" for index, name in enumerate(PROTOCOLS)))),
    Case("SE022", f"hosts: [a.x], {TCP}", ("SE022 spec.ports[0]: nothing but the address tells the connections of port 5432 apart, and there is none",)),
    Case("SE022", f"hosts: [a.x], {TCP}, resolution: DNS", ("SE022 spec.ports[0]: nothing but the address tells the connections of port 5432 apart, and there is none",), labels="networking.istio.io/enable-autoallocate-ip: 'false'"),
    Case("fine without address", f"hosts: [a.x], {TCP}, resolution: DNS"),
    Case("SE023", f"hosts: [a.x], {HTTP}, endpoints: [{{address: 192.0.2.1}}]", ("SE023 spec.endpoints: resolution NONE allows no endpoints",)),
    Case("SE023", f"hosts: [a.x], {HTTP}, endpoints: []", ("SE023 spec.endpoints: resolution NONE allows no endpoints",)),
    Case("SE024", f"hosts: [a.x], {HTTP}, workloadSelector: {{labels: {{a: b}}}}", ("SE024 spec.workloadSelector: should not be set with resolution NONE",)),
    Case("SE025", static("~"), ("SE025 spec.endpoints[0]: an endpoint may not be null",)),
    Case("SE026", static("{weight: 1}"), ("SE026 spec.endpoints[0]: an endpoint must have an address",)),
    Case("SE026", "labels: {a: b}", ("SE026 spec: an endpoint must have an address",), kind="WorkloadEntry"),
    Case("SE027", static("{network: n1}"), ("SE027 spec.endpoints[0]: the address is unset, with network 'n1'",)),
    Case("SE027", "network: n1", ("SE027 spec: the address is unset, with network 'n1'",), kind="WorkloadEntry"),
    Case("SE028", static("{address: b.x}"), ("SE028 spec.endpoints[0].address: 'b.x' is not a valid IP address",)),
    Case("SE029", static("{address: 'unix://a/b'}"), ("SE029 spec.endpoints[0].address: a unix address must be an absolute path or start with '@'",)),
    Case("SE029", static("{address: 'unix:///a/b/'}"), ("SE029 spec.endpoints[0].address: a unix address must not end with '/'",)),
    Case("SE029", "address: 'unix://a'", ("SE029 spec.address: a unix address must be an absolute path or start with '@'",), kind="WorkloadEntry"),
    Case("fine abstract socket", static("{address: 'unix://@a'}")),
    Case("SE030", static("{address: 'unix:///a', ports: {http: 80}}"), ("SE030 spec.endpoints[0].ports: a unix endpoint must not have ports",)),
    Case("SE031", static("{address: 'unix:///a'}", "ports: []"), ("SE031 spec.endpoints[0]: a unix endpoint needs exactly one port in the entry, not 0",)),
    Case("SE032", static("{address: 192.0.2.1, ports: {other: 80}}"), ("SE032 spec.endpoints[0].ports.other: port 'other' is not defined by the entry",)),
    Case("SE033", static("{address: 192.0.2.1, ports: {http: 0}}"), ("SE033 spec.endpoints[0].ports.http: 0 is not a port: 1 to 65535",)),
    Case("SE033", "address: 192.0.2.1, ports: {A: 80}", ("SE033 spec.ports.A: 'A' is not a port name",), kind="WorkloadEntry"),
    Case("SE033", f"address: 192.0.2.1, ports: {{{'a' * 63}: 80}}", (f"SE033 spec.ports.{'a' * 63}: '{'a' * 63}' is not a port name",), kind="WorkloadEntry"),
    Case("M018", static("{address: 192.0.2.1, labels: {a: b c}}"), ("M018 spec.endpoints[0].labels.a: cannot be 'b c'",)),
    Case("fine without endpoints", f"hosts: [a.x], {HTTP}, resolution: STATIC"),
    Case("SE035", f"hosts: ['*.a.x'], {HTTP}, resolution: DNS", ("SE035 spec.hosts[0]: '*.a.x' cannot be resolved: DNS without endpoints needs full names",)),
    Case("fine wildcard", f"hosts: ['*.a.x'], {HTTP}, resolution: DNS, endpoints: [{{address: b.x}}]"),
    Case("SE036", f"hosts: [a.x], {HTTP}, resolution: DNS_ROUND_ROBIN, endpoints: [{{address: b.x}}, {{address: c.x}}]", ("SE036 spec.endpoints: resolution DNS_ROUND_ROBIN allows one endpoint, not 2",)),
    Case("SE037", dns("endpoints: [{address: 'unix:///a'}, {address: '*.b.x'}, {address: b.x}, {address: '::1'}, {}]"), (
        "SE037 spec.endpoints[0].address: 'unix:///a' is neither a domain name nor an IP address",
        "SE037 spec.endpoints[1].address: '*.b.x' is neither a domain name nor an IP address",
        "SE037 spec.endpoints[4].address: '' is neither a domain name nor an IP address",
    )),
    Case("SE037", "address: a_b", ("SE037 spec.address: 'a_b' is neither a domain name nor an IP address",), kind="WorkloadEntry"),
    Case("SE038", "hosts: [a.x, b.x], addresses: [192.0.2.1], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]", ("SE038 spec.hosts: several hosts share an address, and a TCP port cannot tell them apart",)),
    Case("SE039", "resolution: DYNAMIC_DNS", ("SE039 spec.hosts: at least one wildcard host must be given",)),
    Case("SE040", dynamic(hosts="a.x"), ("SE040 spec.hosts[0]: 'a.x' must be a wildcard",)),
    Case("SE041", dynamic("addresses: [192.0.2.1]"), ("SE041 spec.addresses: resolution DYNAMIC_DNS allows no addresses",)),
    Case("SE042", dynamic("endpoints: [{address: a.x}]"), ("SE042 spec.endpoints: resolution DYNAMIC_DNS allows no endpoints",)),
    Case("SE043", dynamic("ports: [{number: 80, name: a, protocol: TCP}]"), ("SE043 spec.ports[0].protocol: 'TCP' is not supported with resolution DYNAMIC_DNS",)),
    Case("SE044", dynamic("location: MESH_INTERNAL"), ("SE044 spec.location: MESH_INTERNAL is not supported when using waypoints",), labels="istio.io/use-waypoint: w"),
    Case("fine dynamic", dynamic(f"location: MESH_INTERNAL, {HTTP}", "'*.a.x', '*b.x'"), labels="istio.io/use-waypoint: none"),
    Case("SE045", "hosts: [a.x], resolution: dns", ("SE045 spec.resolution: 'dns' is not a resolution",)),
    Case("SE045", "hosts: [a.x], resolution: ''", ("SE045 spec.resolution: '' is not a resolution",)),
    Case("SE046", f"hosts: [a.x, b.x], {TCP}, resolution: DNS", ("SE046 spec.ports[0].protocol: several hosts, and TCP does not carry which one is meant",)),
    Case("fine hosts that share", f"hosts: [a.x, b.x], {HTTP}, resolution: DNS"),
    Case("SE047", dns("exportTo: [default, .]"), ("SE047 spec.exportTo[1]: '.' is given twice",)),
    Case("SE048", dns("exportTo: [A]"), ("SE048 spec.exportTo[0]: 'A' is not a namespace",)),
    Case("SE049", dns("exportTo: ['*', .]"), ("SE049 spec.exportTo: '*' and other namespaces exclude each other",)),
    Case("SE050", dns("exportTo: ['~', .]"), ("SE050 spec.exportTo: '~' (no one) and other namespaces exclude each other",)),
    Case("fine export", dns("exportTo: [., other]")),
    Case("SE101", f"hosts: [{many(257, 'h%.x')}]", ("SE101 spec.hosts: 257 hosts: at most 256 are allowed",)),
    Case("SE102", f"hosts: [a.x], addresses: [{many(257, '10.0.0.1')}]", ("SE102 spec.addresses: 257 addresses: at most 256 are allowed",)),
    Case("SE104", port(many(257, "{number: 1%, name: p%}")), ("SE104 spec.ports: 257 ports: at most 256 are allowed",)),
    Case("SE105", port(f"{{number: 80, name: a, protocol: {'x' * 257}}}"), (f"SE021 spec.ports[0].protocol: '{'X' * 64}' is not a protocol", "SE105 spec.ports[0].protocol: 257 characters long")),
    Case("SE106", static(many(4097, "{address: 192.0.2.1}")), ("SE106 spec.endpoints: 4097 endpoints: at most 4096 are allowed",)),
    Case("SE107", static(f"{{address: 'unix:///{'a' * 256}'}}"), ("SE107 spec.endpoints[0].address: 264 characters long",)),
    Case("SE108", f"address: 192.0.2.1, ports: {{{many(129, 'p%: 80')}}}", ("SE108 spec.ports: 129 ports",), kind="WorkloadEntry"),
    Case("SE109", static(f"{{address: 192.0.2.1, labels: {{{many(257, 'l%: v')}}}}}"), ("SE109 spec.endpoints[0].labels: 257 labels",)),
    Case("SE110", static(f"{{address: 192.0.2.1, locality: {'x' * 2049}, serviceAccount: {'y' * 254}}}"), (
        "SE110 spec.endpoints[0].locality: 2049 characters: at most 2048 are allowed",
        "SE110 spec.endpoints[0].serviceAccount: 254 characters: at most 253 are allowed",
    )),
    Case("SE111", dns(f"workloadSelector: {{labels: {{a: {'x' * 64}}}}}"), ("SE111 spec.workloadSelector.labels.a: 64 characters: at most 63 are allowed",)),
    Case("SE111", dns(f"workloadSelector: {{labels: {{{many(257, 'l%: v')}}}}}"), ("SE111 spec.workloadSelector: 257 labels: at most 256 are allowed",)),
    Case("SE112", dns("location: EXTERNAL"), ("SE112 spec.location: 'EXTERNAL' is not a location",)),
    Case("SE113", static("{address: 192.0.2.1, weight: -1}"), ("SE113 spec.endpoints[0].weight: -1 is not a weight: 0 to 4294967295",)),
    Case("L001", f"hosts: [a.x, A.x., b.x], {HTTP}", ("L001 spec.hosts[1]: 'a.x' is given twice",)),
]  # fmt: skip


def outcome_of(case: Case) -> Outcome:
    labels = f", labels: {{{case.labels}}}" if case.labels else ""
    text = (
        f"apiVersion: networking.istio.io/v1\nkind: {case.kind}\nmetadata: {{name: a{labels}}}\nspec: {{{case.spec}}}\n"
    )
    found = list(read(text.encode(), "a.yaml", "default"))
    assert len(found) == 1
    assert not isinstance(found[0], Break)
    if isinstance(found[0], Outcome):
        return found[0]
    return Outcome(None, None, found[0].problems)


def shown(problem: Problem) -> str:
    assert problem.line == 4
    return f"{problem.rule} {problem.field}: {problem.reason}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rules}-{case.spec[:30]}")
def test_every_rule(case: Case) -> None:
    """An object that breaks a rule is told so, in these words; one that breaks none gets no word."""
    assert tuple(map(shown, outcome_of(case).problems)) == case.lines


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rules}-{case.spec[:30]}")
def test_errors_refuse_and_warnings_do_not(case: Case) -> None:
    """An object is served exactly if no rule of level error is broken, and a bare network is nothing to serve."""
    outcome = outcome_of(case)
    refused = any(problem.level is Level.ERROR for problem in outcome.problems)
    nothing_left = case.rules == "SE027" and case.kind == "WorkloadEntry"
    assert (outcome.entry is None) is (refused or nothing_left)


def test_every_rule_has_a_case() -> None:
    """Every rule of the catalogue is broken by a case here, or is one that others judge."""
    broken = {line.split()[0] for case in CASES for line in case.lines}
    assert set(rules.RULES) - broken - ELSEWHERE == set()


def test_the_catalogue() -> None:
    """Ids and names are unique, and every rule has a fix."""
    every = [rule for rule in vars(rules).values() if isinstance(rule, Rule)]
    assert len({rule.id for rule in every}) == len({rule.name for rule in every}) == len(every) == len(rules.RULES)
    assert all(rule.fix for rule in every)


def test_a_problem_reads_as_a_line() -> None:
    """The text of a problem is `file:line: field: reason`, without what is not known."""
    rule = rules.NO_HOST
    assert str(Problem("a.yaml", 3, "spec", rule.id, rule.level, "is bad", rule.fix)) == "a.yaml:3: spec: is bad"
    assert str(Problem("a.yaml", 0, "", rule.id, rule.level, "is bad", rule.fix)) == "a.yaml: is bad"
