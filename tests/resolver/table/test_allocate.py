"""Who gets which address: the order, what is skipped, what is kept, what rests, and the laws behind all of it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.errors import SettingsError
from meshdns.resolver.source.entry import (
    Address,
    Endpoint,
    EndpointSlice,
    Entry,
    Meta,
    Network,
    Origin,
    Resolution,
    Service,
    ServiceEntry,
    SliceEndpoint,
    WorkloadEntry,
)
from meshdns.resolver.table.allocate import REST_S, Allocation, allocate
from meshdns.resolver.table.pools import Pools
from meshdns.resolver.table.tenure import Tenure

POOLS = Pools(IPv4Network("240.240.0.0/16"), IPv6Network("2001:2::/48"))
NOW = 1_700_000_000.0
V4 = IPv4Address
V6 = IPv6Address


def meta(name: str, namespace: str = "default", created: float | None = None) -> Meta:
    return Meta(Origin("entries.yaml", 1), namespace, name, created)


def entry(  # noqa: PLR0913 - a case names only what differs
    name: str,
    *hosts: str,
    namespace: str = "default",
    created: float | None = None,
    resolution: Resolution = Resolution.STATIC,
    addresses: tuple[Address | Network, ...] = (),
    export_to: tuple[str, ...] = (),
    status: dict[str, tuple[Address, ...]] | None = None,
    labels: dict[str, str] | None = None,
    endpoints: tuple[str, ...] = (),
) -> ServiceEntry:
    return ServiceEntry(
        meta(name, namespace, created)._replace(labels=labels or {}),
        hosts or (f"{name}.internal",),
        addresses,
        resolution=resolution,
        endpoints=tuple(Endpoint(address) for address in endpoints),
        export_to=export_to,
        status_addresses=status or {},
    )


def given_v4(allocation: Allocation) -> dict[str, str]:
    return {lease.host: str(lease.v4) for lease in allocation.leases}


def held(host: str, offset: int, *, freed_at: float | None = None, namespace: str = "default") -> Tenure:
    return Tenure(host, (namespace,), offset, freed_at)


@dataclass(frozen=True)
class Case:
    """What differs from an empty ledger, and the IPv4 addresses that must come out."""

    name: str
    entries: tuple[Entry, ...]
    leases: dict[str, str]
    held: tuple[Tenure, ...] = ()
    problems: list[str] = field(default_factory=list)
    pools: Pools = POOLS


def small(pool4: str, pool6: str = "2001:2::/64") -> Pools:
    return Pools(IPv4Network(pool4), IPv6Network(pool6))


OFF = {"networking.istio.io/enable-autoallocate-ip": "False"}
STATUS: dict[str, tuple[Address, ...]] = {"s.internal": (V4("240.240.0.7"), V6("2001:2::7"))}

CASES = [
    Case("the first lonely entry gets the first address", (entry("auto"),), {"auto.internal": "240.240.0.1"}),
    Case(
        "by namespace and name",
        (entry("b"), entry("a"), entry("z", namespace="aaa")),
        {"z.internal": "240.240.0.1", "a.internal": "240.240.0.2", "b.internal": "240.240.0.3"},
    ),
    Case(
        "the elder first, those without a date last",
        (entry("a"), entry("b", created=20.0), entry("c", created=10.0)),
        {"c.internal": "240.240.0.1", "b.internal": "240.240.0.2", "a.internal": "240.240.0.3"},
    ),
    Case(
        "hosts in the order they are written",
        (entry("a", "z.internal", "y.internal"),),
        {"z.internal": "240.240.0.1", "y.internal": "240.240.0.2"},
    ),
    Case("no lease with resolution NONE", (entry("a", resolution=Resolution.NONE),), {}),
    Case("no lease with resolution DYNAMIC_DNS", (entry("a", resolution=Resolution.DYNAMIC_DNS),), {}),
    Case("DNS", (entry("a", resolution=Resolution.DNS),), {"a.internal": "240.240.0.1"}),
    Case("DNS_ROUND_ROBIN", (entry("a", resolution=Resolution.DNS_ROUND_ROBIN),), {"a.internal": "240.240.0.1"}),
    Case("no lease with an address", (entry("a", addresses=(V4("192.0.2.1"),)),), {}),
    Case("no lease with nothing but a block", (entry("a", addresses=(IPv4Network("192.0.2.0/24"),)),), {}),
    Case(
        "0.0.0.0 and :: are no address",
        (entry("a", addresses=(V4("0.0.0.0"), V6("::"))),),
        {"a.internal": "240.240.0.1"},
    ),
    Case("the label says no, in any case", (entry("a", labels=OFF),), {}),
    Case("wildcards have none", (entry("a", "*.internal", "b.internal"),), {"b.internal": "240.240.0.1"}),
    Case("exported to nobody", (entry("a", export_to=("~",)),), {}),
    Case(
        "an address of another entry is passed over",
        (entry("a"), entry("b", addresses=(V4("240.240.0.1"),))),
        {"a.internal": "240.240.0.2"},
    ),
    Case(
        "so is everything inside a block",
        (entry("a"), entry("b", addresses=(IPv4Network("240.240.0.0/29"),))),
        {"a.internal": "240.240.0.8"},
    ),
    Case(
        "so is the IPv4 side of an IPv6 address",
        (entry("a"), entry("b", addresses=(V6("2001:2::1"), IPv6Network("2001:2::2/127")))),
        {"a.internal": "240.240.0.4"},
    ),
    Case(
        "endpoints, workloads, cluster IPs and pods count as well",
        (
            entry("a"),
            entry("b", "*.x", endpoints=("240.240.0.1",)),
            WorkloadEntry(meta("w"), Endpoint("240.240.0.2")),
            Service(meta("s"), (V4("240.240.0.3"),)),
            EndpointSlice(meta("e"), "s", (SliceEndpoint((V4("240.240.0.4"),)),)),
        ),
        {"a.internal": "240.240.0.5"},
    ),
    Case(
        "entries of one host share a lease",
        (entry("a", "x.internal"), entry("b", "x.internal"), entry("c")),
        {"x.internal": "240.240.0.1", "c.internal": "240.240.0.2"},
    ),
    Case(
        "what status says is not leased again, and nobody else gets it",
        (entry("s", status={"s.internal": (V4("240.240.0.1"), V6("2001:2::1"))}), entry("t")),
        {"t.internal": "240.240.0.2"},
    ),
    Case(
        "status wins over the ledger",
        (entry("s", status=STATUS), entry("t")),
        {"t.internal": "240.240.0.1"},
        held=(held("t.internal", 7), held("s.internal", 3)),
    ),
    Case(
        "an entry of the host without status shares what the other's says",
        (entry("s", status=STATUS), entry("u", "s.internal")),
        {"s.internal": "240.240.0.7"},
    ),
    Case(
        "the status of a wildcard is spoken for too",
        (
            entry("d", "*.d", resolution=Resolution.DYNAMIC_DNS, status={"*.d": (V4("240.240.0.1"),)}),
            entry("a"),
        ),
        {"a.internal": "240.240.0.2"},
    ),
    Case("what is held stays", (entry("a"),), {"a.internal": "240.240.0.9"}, held=(held("a.internal", 9),)),
    Case(
        "what is held goes when an entry claims it",
        (entry("a"), entry("b", addresses=(V4("240.240.0.9"),))),
        {"a.internal": "240.240.0.1"},
        held=(held("a.internal", 9),),
    ),
    Case(
        "what somebody gave up is not given to another",
        (entry("a"),),
        {"a.internal": "240.240.0.2"},
        held=(held("gone.internal", 1),),
    ),
    Case(
        "a host that comes back gets what it had",
        (entry("a"),),
        {"a.internal": "240.240.0.5"},
        held=(held("a.internal", 5, freed_at=NOW - REST_S + 1),),
    ),
    Case(
        "the rest ends after a day",
        (entry("a"),),
        {"a.internal": "240.240.0.1"},
        held=(held("gone.internal", 1, freed_at=NOW - REST_S),),
    ),
    Case(
        "a clock that was set back does not cut the rest",
        (entry("a"),),
        {"a.internal": "240.240.0.2"},
        held=(held("gone.internal", 1, freed_at=NOW + 10 * REST_S),),
    ),
    Case(
        "a lease survives a move to another namespace",
        (entry("a", namespace="new"),),
        {"a.internal": "240.240.0.5"},
        held=(held("a.internal", 5, namespace="old"),),
    ),
    Case(
        "what lies outside the pools is passed over",
        (entry("a"),),
        {"a.internal": "240.240.0.1"},
        held=(held("a.internal", 70_000), held("b.internal", -1), held("a.internal", 255), held("a.internal", 65_535)),
    ),
    Case(
        "no .0 and no .255 inside the pool",
        (
            entry("a", "a.x", "b.x"),
            entry("c", addresses=(IPv4Network("240.240.0.0/25"), IPv4Network("240.240.0.128/26"))),
        ),
        {"a.x": "240.240.0.254", "b.x": "240.240.1.1"},
        held=(*(held(f"h{n}.x", n, freed_at=NOW) for n in range(192, 254)),),
    ),
    Case(
        "an exhausted pool is a problem of the entry, and the last address is never leased",
        (entry("a"), entry("b"), entry("c")),
        {"a.internal": "192.0.2.1", "b.internal": "192.0.2.2"},
        pools=small("192.0.2.0/30"),
        problems=["entries.yaml:1: spec.hosts[0]: cannot lease an address for c.internal: 192.0.2.0/30 is exhausted"],
    ),
    Case(
        "a pool that manifests cover leases nothing",
        (entry("a"), entry("b", addresses=(IPv4Network("0.0.0.0/0"),))),
        {},
        problems=["entries.yaml:1: spec.hosts[0]: cannot lease an address for a.internal: 240.240.0.0/16 is exhausted"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_named_cases(case: Case) -> None:
    """Each named rule of who gets which address holds."""
    allocation = allocate(case.entries, case.pools, case.held, NOW)
    assert given_v4(allocation) == case.leases
    assert [str(problem) for problem in allocation.problems] == case.problems


def test_both_families_have_the_same_offset() -> None:
    """240.240.1.1 goes with 2001:2::101."""
    blocked = entry("b", addresses=(IPv4Network("240.240.0.0/24"),))
    lease = allocate((entry("a"), blocked), POOLS, (), NOW).leases[0]
    assert (lease.v4, lease.v6) == (V4("240.240.1.1"), V6("2001:2::101"))


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (("*",), ("*",), True),
        ((), ("ns2",), True),
        ((".",), (".",), False),
        (("ns1",), ("ns2",), False),
        (("ns2",), (".",), True),
        (("ns3",), ("ns3",), True),
        (("ns3", "ns4"), ("ns5", "ns4"), True),
    ],
)
def test_export_keeps_apart(first: tuple[str, ...], second: tuple[str, ...], *, shared: bool) -> None:
    """Entries of one host in two namespaces share a lease exactly if some namespace sees both; each has its row."""
    pair = (entry("a", "x.y", namespace="ns1", export_to=first), entry("b", "x.y", namespace="ns2", export_to=second))
    leases = allocate(pair, POOLS, (), NOW).leases
    assert [lease.namespace for lease in leases] == ["ns1", "ns2"]
    assert (leases[0].v4 == leases[1].v4) is shared


def test_a_third_entry_joins_two_groups() -> None:
    """What two entries share with a third they share with each other."""
    found = allocate(
        (
            entry("a", "x.y", namespace="ns1", export_to=("left",)),
            entry("b", "x.y", namespace="ns2", export_to=("right",)),
            entry("c", "x.y", namespace="ns3", export_to=("left", "right")),
        ),
        POOLS,
        (),
        NOW,
    )
    assert {str(lease.v4) for lease in found.leases} == {"240.240.0.1"}
    assert found.used == 1


def test_endpoints_instead_of_a_lease() -> None:
    """With answer_endpoints a STATIC entry that has IP endpoints gets no lease; one of Unix sockets does."""
    entries = (entry("a", endpoints=("192.0.2.1",)), entry("b", endpoints=("unix:///run/b",)))
    found = allocate(entries, POOLS, (), NOW, answer_endpoints=True)
    assert given_v4(found) == {"b.internal": "240.240.0.1"}


def test_counts() -> None:
    """Used, resting and free pairs add up to what the pool can lease: 65536 less 512 less the last, less claims."""
    found = allocate(
        (entry("a"), entry("b", addresses=(IPv4Network("240.240.7.0/24"),))), POOLS, (held("gone.x", 1),), NOW
    )
    assert (found.used, found.resting, found.free) == (1, 1, 65536 - 512 - 254 - 2)


@pytest.mark.parametrize(
    ("v4", "v6", "reason"),
    [
        ("240.240.0.0/16", "2001:2::/113", "cannot pair the pools: 2001:2::/113 holds fewer addresses"),
        ("224.0.0.0/24", "2001:2::/48", "cannot lease from 224.0.0.0/24"),
        ("127.1.0.0/16", "2001:2::/48", "cannot lease from 127.1.0.0/16"),
        ("240.240.0.0/16", "ff02::/48", "cannot lease from ff02::/48"),
    ],
)
def test_refused_pools(v4: str, v6: str, reason: str) -> None:
    """Pools that cannot be paired or connected to are refused with the reason."""
    with pytest.raises(SettingsError, match=reason):
        small(v4, v6)


def test_values_cross_processes() -> None:
    """An allocation can be sent to another process."""
    found = allocate((entry("a"),), POOLS, (), NOW)
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own bytes


# The laws. Few hosts, few namespaces and a small pool, so that they meet.

TINY = small("192.0.2.0/28")
HOSTS = [f"h{n}.x" for n in range(6)]
ADDRESSES = [V4(f"192.0.2.{n}") for n in range(1, 15)]

entries_st = st.lists(
    st.builds(
        entry,
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from(HOSTS),
        namespace=st.sampled_from(["n1", "n2"]),
        created=st.sampled_from([None, 1.0, 2.0]),
        export_to=st.sampled_from([(), (".",), ("n1",), ("n3",)]),
        addresses=st.one_of(st.just(()), st.just(()), st.sampled_from(ADDRESSES).map(lambda one: (one,))),
    ),
    max_size=7,
    unique_by=lambda made: (made.meta.namespace, made.meta.name),
)
tenures_st = st.lists(
    st.builds(
        Tenure,
        st.sampled_from(HOSTS),
        st.sampled_from([("n1",), ("n2",), ()]),
        st.integers(-1, 17),
        st.sampled_from([None, NOW - 1, NOW - 2 * REST_S, NOW + 5]),
    ),
    max_size=8,
)


@given(entries_st, tenures_st)
def test_no_address_has_two_hosts_or_is_in_use(entries: list[ServiceEntry], past: list[Tenure]) -> None:
    """Whatever the ledger says: no pair goes to two hosts, none is one a manifest claims, none ends in 0 or 255."""
    found = allocate(entries, TINY, past, NOW)
    claimed = {address for one in entries for address in one.addresses}
    host_of: dict[Address, str] = {}
    for lease in found.leases:
        assert host_of.setdefault(lease.v4, lease.host) == lease.host
        assert lease.v4 not in claimed
        assert (lease.v4, lease.v6) == TINY.pair(int(lease.v4) - int(TINY.v4.network_address))
        assert TINY.may_lease(int(lease.v4) - int(TINY.v4.network_address))
    assert len({tenure.offset for tenure in found.tenures}) == len(found.tenures)


@given(entries_st, tenures_st, st.randoms(use_true_random=False))
def test_order_of_entries_does_not_matter(entries: list[ServiceEntry], past: list[Tenure], random: object) -> None:
    """The same entries and the same past in another order give the same leases."""
    first = allocate(entries, TINY, past, NOW)
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert allocate(shuffled, TINY, past, NOW) == first


@given(entries_st)
def test_again_changes_nothing(entries: list[ServiceEntry]) -> None:
    """An allocation on top of its own outcome is the same."""
    first = allocate(entries, TINY, (), NOW)
    assert allocate(entries, TINY, first.tenures, NOW) == first


@given(entries_st, st.sampled_from(["a", "zz"]), st.sampled_from([None, 0.5]))
def test_adding_an_unrelated_host_moves_nobody(entries: list[ServiceEntry], name: str, created: float | None) -> None:
    """Who has a lease keeps it when a host is added, however old that is."""
    first = allocate(entries, TINY, (), NOW)
    added = entry(name, "new.host", namespace="n0", created=created)
    second = allocate([*entries, added], TINY, first.tenures, NOW)
    assert set(first.leases) <= set(second.leases)


@given(entries_st, st.integers(0, 6), st.floats(1, REST_S - 1))
def test_removing_and_adding_again_moves_nobody(entries: list[ServiceEntry], index: int, pause: float) -> None:
    """Entries that go stay out of others' way, and find their address when they come back within a day."""
    first = allocate(entries, TINY, (), NOW)
    fewer = entries[:index] + entries[index + 1 :]
    second = allocate(fewer, TINY, first.tenures, NOW)
    kept = {lease.host: lease for lease in first.leases}
    third = allocate(entries, TINY, second.tenures, NOW + pause)
    if all(not one.addresses for one in entries) and len({one.hosts for one in entries}) == len(entries):
        assert set(second.leases) <= set(first.leases)
        assert third.leases == first.leases
    assert {lease.host for lease in third.leases} == set(kept)


@given(entries_st, tenures_st)
def test_what_rests_goes_to_nobody_else(entries: list[ServiceEntry], past: list[Tenure]) -> None:
    """An address given up less than a day ago, or held by a host that is gone, goes back to that host or to nobody."""
    found = allocate(entries, TINY, past, NOW)
    by_offset: dict[int, Tenure] = {}
    for tenure in past:
        if tenure.freed_at is None or tenure.freed_at > NOW - REST_S:
            by_offset.setdefault(tenure.offset, tenure)
    for lease in found.leases:
        before = by_offset.get(int(lease.v4) - int(TINY.v4.network_address))
        assert before is None or before.host == lease.host
