"""The catalogue of rules that manifests must keep: ids, levels and fixes, and nothing that judges.

An id, once published, never changes its meaning and is never given to another rule. M: files, documents and fields of
any kind. SE001-SE050: Istio's webhook (pkg/config/validation, ValidateServiceEntry). SE101-SE199: the schema of its
custom resources (manifests/charts/base/files/crd-all.gen.yaml). SE201: its analyzers. L: what nobody else tells.
An error refuses the document, as the API server would; a warning and a note do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from meshdns.resolver.source.problem import Level, Rule

_E: Final = Level.ERROR
_W: Final = Level.WARNING
_N: Final = Level.NOTE

FILE_TOO_BIG: Final = Rule("M001", "file-too-big", _E, "split the file")
NOT_UTF8: Final = Rule("M002", "not-utf8", _E, "save the file as UTF-8")
SYNTAX: Final = Rule("M003", "syntax", _E, "mend the YAML; the documents from here on are not read")
TOO_DEEP: Final = Rule("M004", "too-deep", _E, "remove the nesting: no known object is that deep")
ALIAS: Final = Rule("M005", "alias", _E, "write the value out in each place")
TAG: Final = Rule("M006", "tag", _E, "remove the tag")
DUPLICATE_KEY: Final = Rule("M007", "duplicate-key", _E, "keep one of the two")
KEY_NOT_TEXT: Final = Rule("M008", "key-not-text", _E, "quote the key")
NOT_A_MAPPING: Final = Rule("M009", "not-a-mapping", _E, "start with apiVersion, kind, metadata and spec")
UNREADABLE: Final = Rule("M010", "unreadable", _E, "make it readable for the resolver's user")
MISSING_PATH: Final = Rule("M011", "missing-path", _E, "create it, or mount it")
WRONG_TYPE: Final = Rule("M012", "wrong-type", _E, "give a value of that type")
REQUIRED: Final = Rule("M013", "required", _E, "add the field")
UNKNOWN_FIELD: Final = Rule("M014", "unknown-field", _W, "correct the name or remove the field: nothing reads it")
UNKNOWN_VERSION: Final = Rule("M015", "unknown-version", _W, "use networking.istio.io/v1: the object is not read")
UNKNOWN_KIND: Final = Rule("M016", "unknown-kind", _W, "correct the kind: the object is not read")
BAD_NAME: Final = Rule("M017", "bad-name", _E, "use lower-case letters, digits, '-' and, in a name, '.'")
BAD_LABEL: Final = Rule("M018", "bad-label", _E, "see the syntax of Kubernetes labels")
BAD_TIME: Final = Rule("M019", "bad-time", _W, "write it as 2006-01-02T15:04:05Z: it is taken as absent")
DUPLICATE_OBJECT: Final = Rule("M020", "duplicate-object", _W, "remove one of the two: this one is not read")

SELECTOR_EMPTY_KEY: Final = Rule("SE001", "selector-empty-key", _E, "name the label")
SELECTOR_WILDCARD: Final = Rule("SE002", "selector-wildcard", _E, "write each label out")
SELECTOR_WITHOUT_LABELS: Final = Rule("SE003", "selector-without-labels", _W, "give labels: it selects every workload")
SELECTOR_AND_ENDPOINTS: Final = Rule("SE004", "selector-and-endpoints", _E, "keep one of the two")
NO_HOST: Final = Rule("SE005", "no-host", _E, "give at least one host")
HOST_STAR: Final = Rule("SE006", "host-star", _E, "name a domain, such as *.example.com")
HOST_LENGTH: Final = Rule("SE007", "host-length", _E, "a name has 1 to 253 characters")
HOST_SYNTAX: Final = Rule("SE008", "host-syntax", _E, "use letters, digits and inner hyphens, 63 a label; IDNs as xn--")
HOST_NUMERIC_TOP: Final = Rule("SE009", "host-numeric-top", _E, "put IP addresses into addresses, names into hosts")
HOST_PARTIAL_WILDCARD: Final = Rule(
    "SE011", "host-partial-wildcard", _W, "use a whole label, '*.': this matches nothing"
)
ADDRESS_SYNTAX: Final = Rule("SE012", "address-syntax", _E, "give an IP address, or a CIDR block")
ADDRESS_CIDR_SYNTAX: Final = Rule("SE013", "address-cidr-syntax", _E, "give ADDRESS/LENGTH, such as 192.0.2.0/24")
ADDRESS_CIDR_RESOLUTION: Final = Rule("SE014", "address-cidr-resolution", _E, "use resolution NONE or STATIC")
PORT_NULL: Final = Rule("SE015", "port-null", _E, "give number and name, or remove the item")
PORT_NAME_REPEATED: Final = Rule("SE016", "port-name-repeated", _E, "give each port a name of its own")
PORT_NUMBER_REPEATED: Final = Rule("SE017", "port-number-repeated", _E, "declare each number once")
PORT_TARGET_RANGE: Final = Rule("SE018", "port-target-range", _E, "give a port from 1 to 65535")
PORT_RANGE: Final = Rule("SE019", "port-range", _E, "give a port from 1 to 65535")
PORT_NAME_SYNTAX: Final = Rule("SE020", "port-name-syntax", _E, "use lower-case letters, digits and inner hyphens")
PORT_PROTOCOL: Final = Rule(
    "SE021",
    "port-protocol",
    _E,
    "use HTTP, HTTPS, HTTP2, HTTP_PROXY, GRPC, GRPC-WEB, TLS, TCP, UDP, MONGO, MYSQL or REDIS",
)
ADDRESS_NEEDED: Final = Rule(
    "SE022", "address-needed", _W, "give addresses, or let an address be allocated (resolution)"
)
NONE_ENDPOINTS: Final = Rule("SE023", "none-endpoints", _E, "set resolution STATIC or DNS, or remove endpoints")
NONE_SELECTOR: Final = Rule("SE024", "none-selector", _W, "set resolution STATIC")
ENDPOINT_NULL: Final = Rule("SE025", "endpoint-null", _E, "give an address, or remove the item")
ENDPOINT_ADDRESS_MISSING: Final = Rule("SE026", "endpoint-address-missing", _E, "give an address")
ENDPOINT_NETWORK_ONLY: Final = Rule("SE027", "endpoint-network-only", _W, "give an address: the endpoint is not used")
ENDPOINT_NOT_IP: Final = Rule("SE028", "endpoint-not-ip", _E, "give an IP address, or set resolution DNS")
ENDPOINT_UNIX_PATH: Final = Rule("SE029", "endpoint-unix-path", _E, "give an absolute path of a socket, or @name")
ENDPOINT_UNIX_PORTS: Final = Rule("SE030", "endpoint-unix-ports", _E, "remove the endpoint's ports")
ENDPOINT_UNIX_ONE_PORT: Final = Rule("SE031", "endpoint-unix-one-port", _E, "declare exactly one port in the entry")
ENDPOINT_PORT_UNDEFINED: Final = Rule("SE032", "endpoint-port-undefined", _E, "use the name of one of spec.ports")
ENDPOINT_PORT: Final = Rule("SE033", "endpoint-port", _E, "give a port name and a number from 1 to 65535")
DNS_HOST_WILDCARD: Final = Rule("SE035", "dns-host-wildcard", _E, "give endpoints, or a host without wildcard")
DNS_ROUND_ROBIN_ENDPOINTS: Final = Rule("SE036", "dns-round-robin-endpoints", _E, "keep one endpoint, or use DNS")
DNS_ENDPOINT: Final = Rule("SE037", "dns-endpoint", _E, "give a domain name or an IP address")
HOSTS_SHARE_ADDRESS: Final = Rule("SE038", "hosts-share-address", _W, "use one entry per host")
DYNAMIC_NO_HOST: Final = Rule("SE039", "dynamic-no-host", _E, "give a wildcard host")
DYNAMIC_HOST: Final = Rule("SE040", "dynamic-host", _E, "use resolution DNS for hosts without wildcard")
DYNAMIC_ADDRESSES: Final = Rule("SE041", "dynamic-addresses", _E, "remove addresses")
DYNAMIC_ENDPOINTS: Final = Rule("SE042", "dynamic-endpoints", _E, "remove endpoints")
DYNAMIC_PROTOCOL: Final = Rule("SE043", "dynamic-protocol", _E, "use HTTP, HTTP2, GRPC or TLS")
DYNAMIC_WAYPOINT: Final = Rule("SE044", "dynamic-waypoint", _E, "use location MESH_EXTERNAL")
RESOLUTION: Final = Rule("SE045", "resolution", _E, "use NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS")
HOSTS_SHARE_PORT: Final = Rule("SE046", "hosts-share-port", _E, "use one entry per host, or HTTP or TLS ports")
EXPORT_REPEATED: Final = Rule("SE047", "export-repeated", _E, "name each namespace once")
EXPORT_SYNTAX: Final = Rule("SE048", "export-syntax", _E, "use '*', '.', '~' or a namespace")
EXPORT_PUBLIC_AND_MORE: Final = Rule("SE049", "export-public-and-more", _E, "keep '*' alone, or remove it")
EXPORT_NOBODY_AND_MORE: Final = Rule("SE050", "export-nobody-and-more", _E, "keep '~' alone, or remove it")

TOO_MANY_HOSTS: Final = Rule("SE101", "too-many-hosts", _E, "split the entry")
TOO_MANY_ADDRESSES: Final = Rule("SE102", "too-many-addresses", _E, "split the entry")
TOO_MANY_PORTS: Final = Rule("SE104", "too-many-ports", _E, "split the entry")
PORT_TEXT_LENGTH: Final = Rule("SE105", "port-text-length", _E, "shorten it to 256 characters")
TOO_MANY_ENDPOINTS: Final = Rule("SE106", "too-many-endpoints", _E, "split the entry, or use WorkloadEntry objects")
ENDPOINT_ADDRESS_LENGTH: Final = Rule("SE107", "endpoint-address-length", _E, "shorten it to 256 characters")
ENDPOINT_TOO_MANY_PORTS: Final = Rule("SE108", "endpoint-too-many-ports", _E, "keep 128 ports")
ENDPOINT_TOO_MANY_LABELS: Final = Rule("SE109", "endpoint-too-many-labels", _E, "keep 256 labels")
ENDPOINT_TEXT_LENGTH: Final = Rule("SE110", "endpoint-text-length", _E, "shorten it")
SELECTOR_SIZE: Final = Rule("SE111", "selector-size", _E, "select by fewer labels, and values of at most 63 characters")
LOCATION: Final = Rule("SE112", "location", _E, "use MESH_EXTERNAL or MESH_INTERNAL")
WEIGHT: Final = Rule("SE113", "endpoint-weight", _E, "give a weight from 0 to 4294967295")

PROTOCOL_CONFLICT: Final = Rule(
    "SE201", "protocol-conflict", _W, "give the port one protocol in all entries of the host"
)

DUPLICATE_HOST: Final = Rule("L001", "duplicate-host", _W, "name each host once")
LEASE_EXHAUSTED: Final = Rule("L002", "pool-exhausted", _E, "use a larger pool, or give the entry addresses")
NO_ANSWER: Final = Rule("L003", "no-answer", _W, "give it addresses: as it is, the name is forwarded")
CIDR_ONLY: Final = Rule("L004", "cidr-only", _W, "add the plain addresses that are to be answered")
CLUSTER_HOST: Final = Rule("L005", "cluster-host", _W, "use a name outside the cluster domain, or a Service")
CLUSTER_WILDCARD: Final = Rule("L006", "cluster-wildcard", _W, "use a wildcard below it that covers no search suffix")
WILDCARD_ANSWERS: Final = Rule("L007", "wildcard-answers", _W, "give the host an answer of its own, or remove it")
LEASE_HIDES_PORTS: Final = Rule("L008", "lease-hides-ports", _N, "declare every port in use, or give addresses")
LEASE_WITHOUT_UDP: Final = Rule("L009", "lease-without-udp", _W, "give addresses: what is leased carries TCP alone")
ADDRESS_IN_POOL: Final = Rule("L010", "address-in-pool", _W, "use an address outside, or another --pool4 or --pool6")
CONTRADICTION: Final = Rule("L011", "contradicting-entries", _W, "say the same in all entries of the host, or keep one")
HOST_TAKEN: Final = Rule("L012", "host-taken", _W, "rename the host, remove one of the two, or limit exportTo")
ANNOTATION: Final = Rule("L013", "annotation", _W, "correct the value: it is taken as absent")
NOT_EXPORTED: Final = Rule("L014", "not-exported", _N, "add the namespace to exportTo, or check with its --namespace")

RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {rule.id: rule for rule in tuple(globals().values()) if isinstance(rule, Rule)}
)
"""Every rule by its id."""
