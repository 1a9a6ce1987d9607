"""Bytes to values: the kinds that are read, their versions, lists, and fields of the wrong type."""

# ruff: noqa: E501 - a row is what is written and the line that comes of it

from __future__ import annotations

import pickle
import textwrap
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.source.entry import (
    Endpoint,
    EndpointSlice,
    Entry,
    Meta,
    Origin,
    Port,
    Resolution,
    Service,
    ServiceEntry,
    SliceEndpoint,
    WorkloadEntry,
)
from meshdns.resolver.source.manifest import Break
from meshdns.resolver.source.problem import Problem
from meshdns.resolver.source.read import Identity, Ignored, Outcome, read

V4 = IPv4Address
V6 = IPv6Address


def outcomes(text: str) -> list[Outcome | Ignored | Break]:
    return list(read(textwrap.dedent(text).encode(), "a.yaml", "default"))


def only(text: str) -> Entry:
    (outcome,) = outcomes(text)
    assert isinstance(outcome, Outcome)
    assert outcome.entry is not None, outcome.problems
    assert not outcome.problems, outcome.problems
    return outcome.entry


def complaints(text: str) -> list[str]:
    lines: list[Problem] = []
    for outcome in outcomes(text):
        lines += [outcome.problem] if isinstance(outcome, Break) else outcome.problems
    return [str(line) for line in lines]


def test_a_full_service_entry() -> None:
    """Every field of a ServiceEntry that names and addresses need is read."""
    entry = only(
        """
        apiVersion: networking.istio.io/v1
        kind: ServiceEntry
        metadata:
          name: full
          namespace: shop
          creationTimestamp: "2024-01-02T03:04:05Z"
          labels: {app: web}
          annotations: {meshdns.io/ttl: 5}
        spec:
          hosts: [API.Example.com., "*.example.com"]
          addresses: [192.0.2.1, 192.0.2.2/32, 198.51.100.7/24, 2001:db8::1]
          ports:
          - {number: 443, name: tls, protocol: tls, targetPort: 8443}
          location: MESH_EXTERNAL
          resolution: STATIC
          endpoints:
          - {address: 203.0.113.1, ports: {tls: 9443}, weight: 3, labels: {v: one}}
          - {address: 203.0.113.2, weight: 0}
          exportTo: [., other]
        """
    )
    assert entry == ServiceEntry(
        Meta(Origin("a.yaml", 2), "shop", "full", 1704164645.0, {"app": "web"}, {"meshdns.io/ttl": "5"}),
        ("api.example.com", "*.example.com"),
        (V4("192.0.2.1"), V4("192.0.2.2"), IPv4Network("198.51.100.0/24"), V6("2001:db8::1")),
        (Port(443, "tls", "TLS", 8443),),
        Resolution.STATIC,
        (Endpoint("203.0.113.1", {"tls": 9443}, 3, {"v": "one"}), Endpoint("203.0.113.2")),
        None,
        (".", "other"),
    )
    assert pickle.loads(pickle.dumps(entry)) == entry  # noqa: S301 - our own bytes


def test_numbers_and_booleans_are_text_where_text_is_wanted() -> None:
    """Unquoted hosts such as no, and labels such as 1, keep what was written."""
    entry = only(
        """
        apiVersion: networking.istio.io/v1beta1
        kind: ServiceEntry
        metadata: {name: 080, labels: {a: 1, b: no, c: }}
        spec: {hosts: [no, on.x, 010.x], resolution: DNS}
        """
    )
    assert isinstance(entry, ServiceEntry)
    assert (entry.hosts, entry.meta.name) == (("no", "on.x", "010.x"), "080")
    assert entry.meta.labels == {"a": "1", "b": "no", "c": ""}
    assert {type(text) for text in (*entry.hosts, *entry.meta.labels.values())} == {str}


def status_entry(spec: str, label: str = "x: y") -> ServiceEntry:
    entry = only(
        f"""
        apiVersion: networking.istio.io/v1
        kind: ServiceEntry
        metadata: {{name: a, labels: {{{label}}}}}
        spec: {{hosts: [A.x, b.x], ports: [{{number: 80, name: http, protocol: HTTP}}], {spec}}}
        status:
          conditions: [{{type: x}}]
          addresses:
          - {{host: A.x, value: 240.240.0.1}}
          - {{host: A.x, value: 240.240.0.2}}
          - {{host: a.x, value: "2001:2::2"}}
          - {{host: b.x, value: nonsense}}
          - nonsense
          - {{value: 240.240.0.3}}
        """
    )
    assert isinstance(entry, ServiceEntry)
    return entry


def test_status_addresses() -> None:
    """The last address of each family counts; what does not parse in the status is passed over without a word."""
    assert status_entry("resolution: STATIC").status_addresses == {"a.x": (V4("240.240.0.2"), V6("2001:2::2"))}


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        ("resolution: NONE", "x: y"),
        ("resolution: STATIC, addresses: [192.0.2.1]", "x: y"),
        ("resolution: STATIC", "networking.istio.io/enable-autoallocate-ip: 'FALSE'"),
    ],
)
def test_status_addresses_that_are_left_over(spec: str, label: str) -> None:
    """The status says nothing about an entry that has no right to a lease."""
    assert status_entry(spec, label).status_addresses == {}


def test_a_workload_entry() -> None:
    """A WorkloadEntry is an endpoint; labels of the object win over those of its spec."""
    entry = only(
        """
        apiVersion: networking.istio.io/v1beta1
        kind: WorkloadEntry
        metadata: {name: vm, labels: {app: object}}
        spec: {address: 10.0.0.9, labels: {app: spec, version: one}, ports: {http: 8080}, serviceAccount: x}
        """
    )
    assert isinstance(entry, WorkloadEntry)
    assert entry.endpoint == Endpoint("10.0.0.9", {"http": 8080}, 1, {"app": "object", "version": "one"})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            "{clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, 'fd00::1'], ports: [{port: 80, name: http, targetPort: web}]}",
            {"cluster_ips": (V4("10.0.0.1"), V6("fd00::1")), "ports": (Port(80, "http", "TCP"),)},
        ),
        ("{clusterIP: 10.0.0.1}", {"cluster_ips": (V4("10.0.0.1"),)}),
        ("{clusterIP: None, publishNotReadyAddresses: true}", {"publish_not_ready": True}),
        ("{clusterIP: '', ports: [{port: 53, protocol: UDP}]}", {"ports": (Port(53, "", "UDP"),)}),
        ("{type: ExternalName, externalName: DB.example.com.}", {"external_name": "db.example.com"}),
    ],
)
def test_a_service(spec: str, expected: dict[str, object]) -> None:
    """A Service has cluster IPs of both families, none when headless, or an external name."""
    entry = only(f"{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {spec}}}")
    assert entry == Service(entry.meta, **expected)  # type: ignore[arg-type]


def test_an_endpoint_slice() -> None:
    """Readiness that is not given is readiness; host names of pods are kept."""
    entry = only(
        """
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
        addressType: IPv4
        endpoints:
        - {addresses: [10.1.0.1], hostname: web-0, conditions: {ready: true}, targetRef: {kind: Pod}}
        - {addresses: [10.1.0.2], conditions: {ready: false}}
        - {addresses: [10.1.0.3, 10.1.0.4]}
        ports: [{port: 80}]
        """
    )
    assert entry == EndpointSlice(
        entry.meta,
        "web",
        (
            SliceEndpoint((V4("10.1.0.1"),), hostname="web-0"),
            SliceEndpoint((V4("10.1.0.2"),), ready=False),
            SliceEndpoint((V4("10.1.0.3"), V4("10.1.0.4"))),
        ),
    )
    assert entry.endpoints[0].hostname == "web-0"


ITEM = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: %s}, spec: {hosts: [%s.x], resolution: DNS}}"


def test_a_list_is_taken_apart() -> None:
    """The objects of a list stand on their own: a bad one takes none of the others with it."""
    found = outcomes(
        f"apiVersion: v1\nkind: List\nitems:\n- {ITEM % ('a', 'a')}\n- {ITEM % ('b', '_')}\n- 7\n- {ITEM % ('c', 'c')}\n"
    )
    assert [outcome.identity and outcome.identity.name for outcome in found if isinstance(outcome, Outcome)] == [
        "a",
        "b",
        None,
        "c",
    ]
    assert [bool(outcome.entry) for outcome in found if isinstance(outcome, Outcome)] == [True, False, False, True]
    origins = [outcome.entry.meta.origin.line for outcome in found if isinstance(outcome, Outcome) and outcome.entry]
    assert origins == [4, 7]


def test_a_list_of_one_kind() -> None:
    """The items of a ServiceEntryList, as the API server itself sends it, need no kind of their own."""
    (outcome,) = outcomes(
        """
        apiVersion: networking.istio.io/v1
        kind: ServiceEntryList
        items:
        - metadata: {name: a}
          spec: {hosts: [a.x], resolution: DNS}
        """
    )
    assert isinstance(outcome, Outcome)
    assert outcome.identity == Identity("ServiceEntry", "default", "a")


def test_json_is_read_as_well() -> None:
    """What kubectl prints with -o json, on one line or on many."""
    entry = only(
        '{"apiVersion": "networking.istio.io/v1alpha3", "kind": "ServiceEntry", "metadata": {"name": "a"},\n'
        '"spec": {"hosts": ["a.x"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],"resolution":"DNS"}}'
    )
    assert isinstance(entry, ServiceEntry)
    assert (entry.hosts, entry.ports) == (("a.x",), (Port(80, "http", "HTTP"),))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("{apiVersion: apps/v1, kind: Deployment}", []),
        ("{apiVersion: serving.knative.dev/v1, kind: Service}", []),
        ("{apiVersion: networking.istio.io/v1, kind: VirtualService}", []),
        (
            "{apiVersion: networking.istio.io/v2, kind: ServiceEntry}",
            ["a.yaml:1: apiVersion: 'networking.istio.io/v2' is not known"],
        ),
        ("{apiVersion: v1, kind: ServiceEntry}", ["a.yaml:1: apiVersion: 'v1' has no ServiceEntry"]),
        (
            "{apiVersion: networking.istio.io/v1, kind: serviceentries}",
            ["a.yaml:1: kind: 'serviceentries' is not known: did you mean ServiceEntry?"],
        ),
    ],
)
def test_other_kinds_are_ignored(text: str, lines: list[str]) -> None:
    """Objects of other kinds are ignored, with a word where it looks like a slip."""
    assert isinstance(outcomes(text)[0], Ignored)
    assert complaints(text) == lines


def entry_with(spec: str, meta: str = "name: a") -> str:
    return f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{{meta}}}\nspec: {{{spec}}}\n"


FINE = "hosts: [a.x], resolution: DNS"

WRONG = [
    ("no apiVersion", "kind: Service\n", ["a.yaml:1: apiVersion: must be a string: the object's type is not known without it"]),
    ("no kind", "apiVersion: v1\n", ["a.yaml:1: kind: must be a string: the object's type is not known without it"]),
    ("no name", entry_with(FINE, ""), ["a.yaml:3: metadata.name: an object must have a name"]),
    ("bad name", entry_with(FINE, "name: A_b"), ["a.yaml:3: metadata.name: cannot be 'A_b'"]),
    ("bad namespace", entry_with(FINE, "name: a, namespace: a.b"), ["a.yaml:3: metadata.namespace: cannot be 'a.b'"]),
    ("bad label", entry_with(FINE, "name: a, labels: {a b: c}"), ["a.yaml:3: metadata.labels.a b: cannot be 'c'"]),
    (
        "labels that are a list",
        entry_with(FINE, "name: a, labels: [x]"),
        ["a.yaml:3: metadata.labels: must be a mapping, not a list"],
    ),
    (
        "label that is a list",
        entry_with(FINE, "name: a, labels: {x.y/z: [1]}"),
        ["a.yaml:3: metadata.labels['x.y/z']: must be a string, not a list"],
    ),
    ("metadata that is text", entry_with(FINE).replace("{name: a}", "a"), [
        "a.yaml:3: metadata: must be a mapping, not 'a'",
        "a.yaml:3: metadata.name: an object must have a name",
    ]),
    ("bad time", entry_with(FINE, "name: a, creationTimestamp: soon"), ["a.yaml:3: metadata.creationTimestamp: cannot be 'soon'"]),
    ("no spec", "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n", ["a.yaml:1: spec: the object must have a spec"]),
    ("hosts that are text", entry_with("hosts: a.x"), ["a.yaml:4: spec.hosts: must be a list, not 'a.x'"]),
    ("host that is null", entry_with("hosts: [a.x, ~]"), ["a.yaml:4: spec.hosts[1]: must be a string, not nothing"]),
    ("port that is text", entry_with(f"{FINE}, ports: [80]"), ["a.yaml:4: spec.ports[0]: must be a mapping, not '80'"]),
    ("endpoint that is text", entry_with(f"{FINE}, endpoints: [b.x]"), ["a.yaml:4: spec.endpoints[0]: must be a mapping, not 'b.x'"]),
    (
        "quoted number",
        entry_with(f"{FINE}, ports: [{{number: '80', name: http}}]"),
        ["a.yaml:4: spec.ports[0].number: must be a whole number, not the string '80'"],
    ),
    (
        "number in octal",
        entry_with(f"{FINE}, ports: [{{number: 080, name: http}}]"),
        ["a.yaml:4: spec.ports[0].number: must be a whole number, not '080'"],
    ),
    (
        "endless number",
        entry_with(f"{FINE}, ports: [{{number: {'9' * 5000}, name: http}}]"),
        [f"a.yaml:4: spec.ports[0].number: must be a whole number, not '{'9' * 64}'"],
    ),
    (
        "nearest names",
        entry_with(f"{FINE}, adresses: [192.0.2.1], ports: [{{number: 80, name: http, Protocol: HTTP, protocol: TLS}}]"),
        [
            "a.yaml:4: spec.adresses: unknown field: did you mean addresses?",
            "a.yaml:4: spec.ports[0].Protocol: unknown field: did you mean protocol?",
        ],
    ),
    ("field at the top", entry_with(FINE) + "hosts: []\n", ["a.yaml:5: hosts: unknown field"]),
    ("misspelt metadata", entry_with(FINE, "name: a, namespaces: b"), ["a.yaml:3: metadata.namespaces: unknown field: did you mean namespace?"]),
    (
        "port of a Service",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 0}, x]}}",
        [
            "a.yaml:1: spec.ports[0].port: must be a port from 1 to 65535",
            "a.yaml:1: spec.ports[1]: must be a mapping, not 'x'",
        ],
    ),
    (
        "cluster IP",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIPs: [x], publishNotReadyAddresses: 1}}",
        [
            "a.yaml:1: spec.clusterIPs: 'x' is not an IP address",
            "a.yaml:1: spec.publishNotReadyAddresses: must be true or false, not '1'",
        ],
    ),
    (
        "external name",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ExternalName, externalName: 192.0.2.1}}",
        ["a.yaml:1: spec.externalName: '192.0.2.1' is not a domain name"],
    ),
    (
        "address of a slice",
        ("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a},"
        " endpoints: [{addresses: [x], hostname: a.b}, 1]}"),
        [
            "a.yaml:1: endpoints[0].addresses[0]: 'x' is not an IP address",
            "a.yaml:1: endpoints[0].hostname: cannot be 'a.b'",
            "a.yaml:1: endpoints[1]: must be a mapping, not '1'",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_wrong_types_and_unknown_fields(text: str, lines: list[str]) -> None:
    """A field of the wrong type, or of no known name, is told as file:line: field: reason."""
    assert complaints(text) == lines


def test_lines_point_at_the_field() -> None:
    """In a file of many lines, the line is the field's own."""
    text = """\
        apiVersion: networking.istio.io/v1
        kind: ServiceEntry
        metadata:
          name: a
        spec:
          hosts:
          - fine.x
          - not_fine
          ports:
          - number: 80
            name: http
          - number: 99999
            name: big
          resolution: DNS
        """
    assert complaints(text) == [
        "a.yaml:8: spec.hosts[1]: 'not_fine' is not a domain name: label 'not_fine'",
        "a.yaml:12: spec.ports[1].number: 99999 is not a port: 1 to 65535",
        "a.yaml:10: spec.ports[0].protocol: several hosts, and an unset protocol does not carry which one is meant",
        "a.yaml:12: spec.ports[1].protocol: several hosts, and an unset protocol does not carry which one is meant",
    ]


def test_problems_of_one_document_are_bounded() -> None:
    """A document with a thousand faults is refused with the first of them, and an error among them is never lost."""
    spec = f"hosts: [{', '.join(['a.x'] * 200)}], resolution: STATIC, endpoints: [{{address: x}}]"
    (outcome,) = outcomes(entry_with(spec))
    assert isinstance(outcome, Outcome)
    assert outcome.entry is None
    assert len(outcome.problems) == 65
    assert str(outcome.problems[-1]) == "a.yaml:4: spec.endpoints[0].address: 'x' is not a valid IP address"


FIELDS = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "name",
    "hosts",
    "ports",
    "number",
    "endpoints",
    "address",
    "status",
]
values_st = st.recursive(
    st.none()
    | st.sampled_from(["networking.istio.io/v1", "ServiceEntry", "a.x", "80", "STATIC", "[]", "", "*", "192.0.2.1/8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=20,
)


def as_yaml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    return "~" if value is None else f'"{value}"'


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS[2:4], values_st) | {"status": values_st}),
    st.sampled_from(
        [
            ("networking.istio.io/v1", "ServiceEntry"),
            ("networking.istio.io/v1", "WorkloadEntry"),
            ("v1", "Service"),
            ("discovery.k8s.io/v1", "EndpointSlice"),
        ]
    ),
)
def test_any_shape_gives_values_or_problems(shape: dict[str, object], kind: tuple[str, str]) -> None:
    """Whatever stands in the fields of an object: a value, or problems that say where."""
    text = as_yaml({"apiVersion": kind[0], "kind": kind[1], **shape})
    for outcome in read(text.encode(), "a.yaml", "default"):
        assert isinstance(outcome, Outcome | Ignored)
        if isinstance(outcome, Outcome) and outcome.entry is None:
            assert outcome.problems
        assert all(problem.line == 1 for problem in outcome.problems)
