# ruff: noqa: ANN401 - what differs from the usual is passed on to constructors
"""Small constructors for entries and tables, and one table, `WORLD`, that most questions of the tests are put to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

from meshdns.resolver.query.answer import Drop, Forward, Tally, decide
from meshdns.resolver.source.entry import (
    Address,
    Endpoint,
    EndpointSlice,
    Entry,
    Meta,
    Network,
    Origin,
    Port,
    Resolution,
    Service,
    ServiceEntry,
    SliceEndpoint,
    WorkloadEntry,
)
from meshdns.resolver.table.allocate import allocate
from meshdns.resolver.table.build import Scope, Table, build
from meshdns.resolver.table.pools import Pools

POOLS: Final = Pools(IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48"))
NAMESPACE_SEARCH: Final = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")


def scope(**changes: Any) -> Scope:
    """Return the scope of a pod in namespace default of a cluster; generation 7."""
    settings: dict[str, Any] = {
        "namespace": "default",
        "cluster_domain": "cluster.local",
        "search": NAMESPACE_SEARCH,
        "pools": (POOLS.v4, POOLS.v6),
        "ttl_s": 30,
        "negative_ttl_s": 5,
        "probe_suffix": "probe.meshdns.invalid",
        "generation": 7,
    }
    return Scope(**(settings | changes))


def meta(name: str, namespace: str = "default", line: int = 1, **rest: Any) -> Meta:
    """Metadata of an object at that line of entries.yaml."""
    return Meta(Origin("entries.yaml", line), namespace, name, **rest)


def addresses(text: str) -> tuple[Address | Network, ...]:
    """Addresses and networks, separated by spaces."""
    return tuple(ip_network(item) if "/" in item else ip_address(item) for item in text.split())


def entry(
    hosts: str, listed: str = "", resolution: str = "NONE", ports: str = "http/HTTP/80", **rest: Any
) -> ServiceEntry:
    """Return a ServiceEntry. `hosts` and `listed` are separated by spaces, `ports` are `name/protocol/number`."""
    of = {
        key: rest.pop(key) for key in ("name", "namespace", "created", "labels", "annotations", "line") if key in rest
    }
    of.setdefault("name", hosts.split(maxsplit=1)[0])
    endpoints = tuple(Endpoint(item) for item in rest.pop("endpoints", "").split())
    return ServiceEntry(
        meta(**of),
        tuple(hosts.split()),
        addresses(listed),
        port_list(ports),
        Resolution(resolution),
        endpoints,
        **rest,
    )


def port_list(text: str) -> tuple[Port, ...]:
    """Ports of `name/protocol/number` separated by spaces."""
    parts = (item.split("/") for item in text.split())
    return tuple(Port(int(number), name, protocol) for name, protocol, number in parts)


def service(name: str, cluster_ips: str = "", ports: str = "http/TCP/80", **rest: Any) -> Service:
    """Return a Service, headless without `cluster_ips`."""
    of = {key: rest.pop(key) for key in ("namespace", "created", "annotations", "line") if key in rest}
    return Service(meta(name, **of), tuple(map(ip_address, cluster_ips.split())), port_list(ports), **rest)


def endpoint_slice(of: str, *endpoints: SliceEndpoint, namespace: str = "default") -> EndpointSlice:
    """Return an EndpointSlice of that Service."""
    return EndpointSlice(meta(f"{of}-1", namespace), of, endpoints)


def pod(address: str, hostname: str = "", *, ready: bool = True) -> SliceEndpoint:
    """One endpoint of a slice."""
    return SliceEndpoint(tuple(map(ip_address, address.split())), ready, hostname)


def workload(address: str, labels: Mapping[str, str], namespace: str = "default") -> WorkloadEntry:
    """Return a WorkloadEntry."""
    return WorkloadEntry(meta(address, namespace), Endpoint(address, labels=labels))


def table_of(*entries: Entry, ipv6: bool = False, auto_allocate: bool = True, **changes: Any) -> Table:
    """Return a table with its leases, as a pod without a global IPv6 address sees it unless `ipv6`."""
    found = scope(**changes)
    leases = allocate(entries, POOLS, (), 0.0, answer_endpoints=found.answer_endpoints).leases if auto_allocate else ()
    table = build(entries, leases, found)
    table.answer_leases(ipv4=True, ipv6=ipv6)
    return table


def answer(table: Table, packet: bytes, *, stream: bool = False, tally: Tally | None = None) -> bytes | Forward | Drop:
    """Decide, with a tally that nobody reads if none is given."""
    return decide(packet, table, defaultdict(int) if tally is None else tally, stream)


WORLD: Final[tuple[Entry, ...]] = (
    entry("address.internal", "198.51.100.0", created=1.0),
    entry("auto.internal", resolution="STATIC", endpoints="198.51.100.2", created=2.0),
    entry("six.internal", "2001:db8::6", ports="https/HTTPS/443 dns/UDP/53"),
    entry("both.internal", "198.51.100.3 2001:db8::3", ports="amqp/TCP/5671 amqps/TLS/5672 /TCP/9"),
    entry("many.internal", "198.51.100.11 198.51.100.12 198.51.100.13"),
    entry("one.internal two.internal", "198.51.100.21"),
    entry("cidr.internal", "198.51.100.0/24"),
    entry("mixed.internal", "198.51.100.31 203.0.113.0/24"),
    entry("none.internal"),
    entry("optout.internal", resolution="STATIC", labels={"networking.istio.io/enable-autoallocate-ip": "False"}),
    entry(
        "status.internal", resolution="DNS", status_addresses={"status.internal": addresses("192.0.2.77 2001:db8::77")}
    ),
    entry("zero.internal", "0.0.0.0 ::", resolution="DNS", created=3.0),
    entry("dynamic.internal", resolution="DYNAMIC_DNS"),
    entry("chosen.internal", selector={"app": "web"}),
    entry("unchosen.internal", selector={"app": "nobody"}),
    workload("192.0.2.1", {"app": "web", "v": "1"}),
    workload("192.0.2.2", {"app": "web"}),
    workload("192.0.2.3", {"app": "db"}),
    workload("192.0.2.4", {"app": "web"}, namespace="other"),
    workload("vm.example.com", {"app": "web"}),
    entry("*.wild.example", "192.0.2.50", ports="http/HTTP/8080"),
    entry("*.deep.wild.example", "192.0.2.51"),
    entry("named.wild.example", "192.0.2.52"),
    entry("*.auto.example", resolution="STATIC"),
    entry("slow.internal", "192.0.2.60", annotations={"meshdns.io/ttl": "300"}),
    entry("brief.internal", "192.0.2.61", annotations={"meshdns.io/ttl": "0"}),
    entry("badttl.internal", "192.0.2.62", annotations={"meshdns.io/ttl": "soon"}),
    entry("mail.internal", "192.0.2.63", annotations={"meshdns.io/other-types": "forward"}),
    entry("v4.internal", resolution="DNS", created=4.0, annotations={"meshdns.io/families": "ipv4"}),
    entry("v6.internal", resolution="DNS", created=5.0, annotations={"meshdns.io/families": "ipv6"}),
    entry("v46.internal", resolution="DNS", created=6.0, annotations={"meshdns.io/families": "both"}),
    entry("halved.internal", "192.0.2.64 2001:db8::64", annotations={"meshdns.io/families": "ipv4"}),
    service("web", "10.96.0.1 fd00::1", ports="http/TCP/80 metrics/TCP/9090 dns/UDP/53"),
    service("web", "10.96.7.1", namespace="shop"),
    service("db"),
    endpoint_slice("db", pod("10.1.0.1", "db-0"), pod("10.1.0.2", "db-1"), pod("10.1.0.3", "db-2", ready=False)),
    endpoint_slice("db", pod("fd00::10:1", "db-0")),
    service("early", publish_not_ready=True),
    endpoint_slice("early", pod("10.1.1.1", ready=False)),
    service("empty"),
    service("outside", external_name="www.example.org"),
    service("inside", external_name="address.internal"),
    service("twice", external_name="inside.default.svc.cluster.local"),
    service("round", external_name="about.default.svc.cluster.local"),
    service("about", external_name="round.default.svc.cluster.local"),
    entry("theirs.internal", "192.0.2.70", namespace="other"),
    entry("private.internal", "192.0.2.71", namespace="other", export_to=(".",)),
    entry("nobody.internal", "192.0.2.72", export_to=("~",)),
    entry("tous.internal", "192.0.2.73", namespace="other", export_to=("default",)),
    entry("tothem.internal", "192.0.2.74", export_to=("other",)),
)
