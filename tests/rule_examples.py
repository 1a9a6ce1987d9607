"""For every rule that manifests must keep: what it says, and a manifest that breaks it. docs/rules.md is made of these.

`test_rules` holds each against `meshdns resolver check`; nothing here is shown that was not seen to break its rule.
"""

# ruff: noqa: E501 - a row is a manifest

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """`meaning` in one sentence, `text` that breaks the rule. `elided` is shown instead of a text that is too long.

    `options` go to the command. No text: the path is missing, or no bytes of YAML can show it.
    """

    meaning: str
    text: str
    elided: str = ""
    options: tuple[str, ...] = ()


def entry(spec: str, name: str = "a", meta: str = "", kind: str = "ServiceEntry") -> str:
    """Return an object of networking.istio.io, its spec indented by two."""
    lines = "".join(f"  {line}\n" for line in spec.strip().splitlines())
    return f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}{meta}}}\nspec:\n{lines}"


def both(*documents: str) -> str:
    """Return one file of several objects."""
    return "---\n".join(documents)


def workload(spec: str) -> str:
    """Return a WorkloadEntry."""
    return entry(spec, kind="WorkloadEntry")


PORT = "ports: [{number: 80, name: http, protocol: HTTP}]"
DB = "ports: [{number: 5432, name: db, protocol: TCP}]"
STATIC = f"hosts: [a.example.com]\n{PORT}\nresolution: STATIC\nendpoints:\n"
DNS = "hosts: [a.example.com]\nresolution: DNS\n"
DYNAMIC = "hosts: ['*.example.com']\nresolution: DYNAMIC_DNS\n"
KUBERNETES = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: 10.96.0.7}\n"


def many(count: int, text: str) -> str:
    """Return a flow sequence's items, `%` being a number."""
    return ", ".join(text.replace("%", str(number)) for number in range(count))


EXAMPLES: dict[str, Example] = {
    "M001": Example("A file holds at most 64 MiB.", "", "# 64 MiB and one byte"),
    "M002": Example("Files are UTF-8.", "", "# hosts: [b\\xfccher.example], saved as Latin-1"),
    "M003": Example("Files are YAML or JSON.", "kind: ServiceEntry\nspec: {hosts: [a.example.com\n"),
    "M004": Example("Nothing nests deeper than 64 levels.", "a: " + "[" * 64 + "]" * 64 + "\n"),
    "M005": Example("There are no anchors and aliases: they can grow without end.", entry("hosts: &hosts [a.example.com]\nsubjectAltNames: *hosts")),
    "M006": Example("There are no tags but YAML's own.", entry("hosts: !!set {a.example.com}")),
    "M007": Example("A key stands once in a mapping.", entry("hosts: [a.example.com]\nhosts: [b.example.com]")),
    "M008": Example("A key is text.", entry("hosts: [a.example.com]\n[x]: y")),
    "M009": Example("A document is a mapping.", "- hosts: [a.example.com]\n"),
    "M010": Example("What is in a directory can be read.", "", "# a file of mode 0000, a pipe, a link that leads nowhere"),
    "M011": Example("A path that `run` is given exists.", "", "# --manifests /etc/meshdns/entires"),
    "M012": Example("A field has the type that the API gives it.", entry("hosts: a.example.com")),
    "M013": Example("Required fields are there.", entry("hosts: [a.example.com]\nports: [{number: 80}]")),
    "M014": Example("A field has one of the names that the API knows.", entry("hosts: [a.example.com]\nadresses: [192.0.2.1]")),
    "M015": Example("A kind that is read stands in a version that is known.", "apiVersion: networking.istio.io/v2\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.example.com]}\n"),
    "M016": Example("A kind of networking.istio.io is one that exists.", "apiVersion: networking.istio.io/v1\nkind: ServiceEntries\nmetadata: {name: a}\nspec: {hosts: [a.example.com]}\n"),
    "M017": Example("Names of objects and namespaces are those of the Kubernetes API.", entry("hosts: [a.example.com]", name="A_1")),
    "M018": Example("Labels are those of the Kubernetes API.", entry("hosts: [a.example.com]", meta=", labels: {tier: 'a b'}")),
    "M019": Example("creationTimestamp is a time of RFC 3339.", entry("hosts: [a.example.com]\naddresses: [192.0.2.1]", meta=", creationTimestamp: yesterday")),
    "M020": Example("An object of one kind, namespace and name stands once.", both(entry("hosts: [a.example.com]\naddresses: [192.0.2.1]"), entry("hosts: [b.example.com]\naddresses: [192.0.2.2]"))),
    "SE001": Example("A selector's labels have keys.", entry(DNS + "workloadSelector: {labels: {'': a}}")),
    "SE002": Example("A selector has no wildcards.", entry(DNS + "workloadSelector: {labels: {app: '*'}}")),
    "SE003": Example("A selector has labels.", entry(DNS + "workloadSelector: {}")),
    "SE004": Example("An entry has endpoints or a selector, not both.", entry(STATIC + "- {address: 192.0.2.1}\nworkloadSelector: {labels: {app: a}}")),
    "SE005": Example("An entry has a host.", entry("hosts: []")),
    "SE006": Example("`*` alone is no host.", entry("hosts: ['*']")),
    "SE007": Example("A host has 1 to 253 characters.", entry("hosts: ['']")),
    "SE008": Example("A host is a domain name; underscores are not allowed.", entry("hosts: [a_b.example.com]")),
    "SE009": Example("A host's last label is not all digits: it would be an address.", entry("hosts: [192.0.2.1]")),
    "SE011": Example("A wildcard is a whole label.", entry("hosts: ['*-eu.example.com']\naddresses: [192.0.2.1]")),
    "SE012": Example("An address is an IP address, without a zone.", entry("hosts: [a.example.com]\naddresses: [192.0.2.256]")),
    "SE013": Example("A CIDR block is an address and a length.", entry("hosts: [a.example.com]\naddresses: [192.0.2.0/33]")),
    "SE014": Example("CIDR blocks go with resolution NONE or STATIC.", entry(DNS + "addresses: [192.0.2.1/32]")),
    "SE015": Example("A port is not null.", entry("hosts: [a.example.com]\nports:\n-")),
    "SE016": Example("Each port has a name of its own.", entry(DNS + "ports:\n- {number: 80, name: http}\n- {number: 81, name: http}")),
    "SE017": Example("Each port number is declared once.", entry(DNS + "ports:\n- {number: 80, name: a}\n- {number: 80, name: b}")),
    "SE018": Example("targetPort is a port.", entry(DNS + "ports: [{number: 80, name: http, targetPort: 65536}]")),
    "SE019": Example("A port's number is 1 to 65535.", entry(DNS + "ports: [{number: 0, name: http}]")),
    "SE020": Example("A port's name is a DNS label in lower case.", entry(DNS + "ports: [{number: 80, name: HTTP}]")),
    "SE021": Example("A port's protocol is one that Istio knows.", entry(DNS + "ports: [{number: 80, name: a, protocol: SCTP}]")),
    "SE022": Example("A TCP port needs an address, of its own or leased.", entry(f"hosts: [a.example.com]\n{DB}")),
    "SE023": Example("Resolution NONE has no endpoints.", entry(f"hosts: [a.example.com]\n{PORT}\nendpoints: [{{address: 192.0.2.1}}]")),
    "SE024": Example("Resolution NONE has no selector.", entry(f"hosts: [a.example.com]\n{PORT}\nworkloadSelector: {{labels: {{app: a}}}}")),
    "SE025": Example("An endpoint is not null.", entry(STATIC + "-")),
    "SE026": Example("An endpoint has an address.", entry(STATIC + "- {weight: 1}")),
    "SE027": Example("An endpoint in another network is reached through a gateway, which nobody here knows.", entry(STATIC + "- {network: other}")),
    "SE028": Example("With resolution STATIC endpoints are IP addresses or Unix sockets.", entry(STATIC + "- {address: b.example.com}")),
    "SE029": Example("A Unix socket is an absolute path of a file, or abstract.", entry(STATIC + "- {address: 'unix://run/a.sock'}")),
    "SE030": Example("A Unix socket has no ports.", entry(STATIC + "- {address: 'unix:///run/a.sock', ports: {http: 80}}")),
    "SE031": Example("An entry with a Unix socket has one port.", entry("hosts: [a.example.com]\nresolution: STATIC\nendpoints:\n- {address: 'unix:///run/a.sock'}")),
    "SE032": Example("An endpoint's ports are named like those of the entry.", entry(STATIC + "- {address: 192.0.2.1, ports: {web: 8080}}")),
    "SE033": Example("An endpoint's port is a name and a number from 1 to 65535.", entry(STATIC + "- {address: 192.0.2.1, ports: {http: 0}}")),
    "SE035": Example("Without endpoints a host of resolution DNS is looked up, and a wildcard cannot be.", entry(f"hosts: ['*.example.com']\n{PORT}\nresolution: DNS")),
    "SE036": Example("DNS_ROUND_ROBIN has one endpoint at most.", entry("hosts: [a.example.com]\nresolution: DNS_ROUND_ROBIN\nendpoints: [{address: b.example.com}, {address: c.example.com}]")),
    "SE037": Example("With resolution DNS endpoints are names or IP addresses.", entry(DNS + "endpoints: [{address: 'unix:///run/a.sock'}]")),
    "SE038": Example("Hosts that share an address cannot be told apart on a TCP port.", entry("hosts: [a.example.com, b.example.com]\naddresses: [192.0.2.1]\nresolution: DNS\nports: [{number: 443, name: tls, protocol: TLS}]")),
    "SE039": Example("DYNAMIC_DNS has a host.", entry("resolution: DYNAMIC_DNS")),
    "SE040": Example("Hosts of DYNAMIC_DNS are wildcards.", entry("hosts: [a.example.com]\nresolution: DYNAMIC_DNS")),
    "SE041": Example("DYNAMIC_DNS has no addresses.", entry(DYNAMIC + "addresses: [192.0.2.1]")),
    "SE042": Example("DYNAMIC_DNS has no endpoints.", entry(DYNAMIC + "endpoints: [{address: a.example.com}]")),
    "SE043": Example("DYNAMIC_DNS goes by what HTTP and TLS carry.", entry(DYNAMIC + DB)),
    "SE044": Example("DYNAMIC_DNS inside the mesh has no waypoint.", entry(DYNAMIC + "location: MESH_INTERNAL", meta=", labels: {istio.io/use-waypoint: w}")),
    "SE045": Example("A resolution is one that exists, in capitals.", entry("hosts: [a.example.com]\nresolution: dns")),
    "SE046": Example("Hosts share a port only where the protocol carries which one is meant.", entry(f"hosts: [a.example.com, b.example.com]\n{DB}\nresolution: DNS")),
    "SE047": Example("exportTo names each namespace once; `.` is the entry's own.", entry(DNS + "exportTo: [default, .]")),
    "SE048": Example("exportTo names namespaces.", entry(DNS + "exportTo: [Shop]")),
    "SE049": Example("`*` in exportTo stands alone.", entry(DNS + "exportTo: ['*', .]")),
    "SE050": Example("`~` in exportTo stands alone.", entry(DNS + "exportTo: ['~', .]")),
    "SE101": Example("An entry has at most 256 hosts.", entry(f"addresses: [192.0.2.1]\nhosts: [{many(257, 'h%.example.com')}]"), "hosts: [h0.example.com, …, h256.example.com]"),
    "SE102": Example("An entry has at most 256 addresses.", entry(f"hosts: [a.example.com]\naddresses: [{many(257, '2001:db8::%')}]"), "addresses: ['2001:db8::0', …, '2001:db8::256']"),
    "SE104": Example("An entry has at most 256 ports.", entry(DNS + f"ports: [{many(257, '{number: 1%, name: p%}')}]"), "ports: [{number: 10, name: p0}, …, {number: 1256, name: p256}]"),
    "SE105": Example("A port's name and protocol have at most 256 characters.", entry(DNS + f"ports: [{{number: 80, name: {'a' * 257}}}]"), "ports: [{number: 80, name: aaa…}]"),
    "SE106": Example("An entry has at most 4096 endpoints.", entry(STATIC + "- {address: 192.0.2.1}\n" * 4097), "endpoints: [{address: 192.0.2.1}, …]"),
    "SE107": Example("An endpoint's address has at most 256 characters.", entry(STATIC + f"- {{address: 'unix:///{'a' * 256}'}}"), "endpoints: [{address: 'unix:///aaa…'}]"),
    "SE108": Example("An endpoint has at most 128 ports.", workload(f"address: 192.0.2.1\nports: {{{many(129, 'p%: 80')}}}"), "ports: {p0: 80, …, p128: 80}"),
    "SE109": Example("An endpoint has at most 256 labels.", workload(f"address: 192.0.2.1\nlabels: {{{many(257, 'l%: v')}}}"), "labels: {l0: v, …, l256: v}"),
    "SE110": Example("locality and network have at most 2048 characters, serviceAccount 253.", workload(f"address: 192.0.2.1\nserviceAccount: {'a' * 254}"), "serviceAccount: aaa…"),
    "SE111": Example("A selector has at most 256 labels of at most 63 characters.", entry(DNS + f"workloadSelector: {{labels: {{app: {'a' * 64}}}}}"), "workloadSelector: {labels: {app: aaa…}}"),
    "SE112": Example("A location is one that exists.", entry(DNS + "location: EXTERNAL")),
    "SE113": Example("A weight is a whole number of 32 bits.", entry(STATIC + "- {address: 192.0.2.1, weight: -1}")),
    "SE201": Example("A host's port has one protocol, whichever entry declares it.", both(entry(DNS + PORT), entry(DNS + PORT.replace("HTTP", "TLS"), name="b"))),
    "L001": Example("A host stands once in an entry.", entry("hosts: [a.example.com, A.example.com.]\naddresses: [192.0.2.1]")),
    "L002": Example("There is an address for everyone who needs one.", entry("hosts: [a.example.com, b.example.com, c.example.com]\nresolution: DNS"), options=("--pool4", "240.240.0.0/30", "--pool6", "2001:2::/126")),
    "L003": Example("A host that is declared is answered; else it is forwarded like any other name, and the reason is told.", entry(f"hosts: [a.example.com]\n{PORT}")),
    "L004": Example("A CIDR block is no answer, and an entry with nothing else is forwarded.", entry("hosts: [a.example.com]\naddresses: [192.0.2.0/24]")),
    "L005": Example("The cluster domain belongs to Kubernetes' own names.", entry("hosts: [db.prod.svc.cluster.local]\naddresses: [192.0.2.1]")),
    "L006": Example("A wildcard above the cluster domain or a search suffix covers every name that a search list makes; there it is skipped.", entry("hosts: ['*.local']\naddresses: [192.0.2.1]")),
    "L007": Example("A host without an answer is forwarded, but a wildcard of another entry answers it.", both(entry("hosts: [a.example.com]"), entry("hosts: ['*.example.com']\naddresses: [192.0.2.1]", name="b"))),
    "L008": Example("Clients connect to a leased address instead of the host's own, so that what is not declared is reached by guessing.", entry(DNS + PORT)),
    "L009": Example("A leased address carries TCP; UDP to it is refused.", entry(DNS + "ports: [{number: 53, name: dns, protocol: UDP}]")),
    "L010": Example("Addresses in the pools are leases; one that an entry claims is leased to nobody, and the relay stands before it.", entry("hosts: [a.example.com]\naddresses: [240.240.3.4]")),
    "L011": Example("Entries of one host are merged and say the same where they both speak.", both(entry("hosts: [a.example.com]\nresolution: DNS"), entry("hosts: [a.example.com]\nresolution: STATIC", name="b"))),
    "L012": Example("Only one object, or one namespace, has a host; the others give way.", both(KUBERNETES, entry("hosts: [db]\naddresses: [192.0.2.1]"))),
    "L013": Example("An annotation of meshdns.io has a value that it can have.", entry("hosts: [a.example.com]\naddresses: [192.0.2.1]", meta=", annotations: {meshdns.io/ttl: 30s}")),
    "L014": Example("An entry is seen in the namespaces of its exportTo only.", entry("hosts: [a.example.com]\naddresses: [192.0.2.1]\nexportTo: [shop]")),
}  # fmt: skip
