"""The cache's bounds, and that its quick way of answering says what the plain one does."""

from __future__ import annotations

from dataclasses import replace

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.query.cache import ENTRY_OVERHEAD_BYTES, Cache, Key, cache_key
from meshdns.resolver.query.decision import NO_GENERATION, read_tally
from meshdns.resolver.query.entry import Entry
from meshdns.resolver.query.reply import Reply, read
from meshdns.resolver.query.wire import Query, parse, udp_limit


def _packet(name: str = "www.example", *, edns: bool = False, dnssec_ok: bool = False, flags: str = "RD") -> bytes:
    query = dns.message.make_query(name, "A", use_edns=0 if edns else -1, want_dnssec=dnssec_ok, id=99)
    query.flags = dns.flags.from_text(flags)
    return query.to_wire()


def _reply(name: str = "www.example", ttl: int = 60, records: int = 3, *, authentic: bool = False) -> Reply:
    message = dns.message.make_response(dns.message.make_query(name, "A"), recursion_available=True)
    message.flags |= dns.flags.AD if authentic else 0
    rdata = [f"192.0.2.{n}" for n in range(records)]
    message.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", "A", *rdata))
    query = _query(_packet(name))
    reply = read(message.to_wire(), query.key, b"\0\1\0\1")
    assert reply is not None
    return reply


def _query(packet: bytes) -> Query:
    query = parse(packet)
    assert isinstance(query, Query)
    return query


def _key(number: int) -> Key:
    name = f"n{number}".encode()
    return cache_key(bytes([len(name)]) + name + b"\0", b"\0\1\0\1", 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 30), st.integers(1, 40)),
        st.tuples(st.just("find"), st.integers(0, 30), st.integers(0, 0)),
        st.tuples(st.just("pass"), st.integers(0, 50), st.integers(0, 0)),
    ),
    max_size=80,
)


@given(STEPS, st.integers(0, 12), st.integers(0, 20_000))
def test_bounds_hold_whatever_is_kept(steps: list[tuple[str, int, int]], entries_max: int, bytes_max: int) -> None:
    """There are never more entries or bytes than allowed, and what is gone is no longer counted."""
    cache, now = Cache(entries_max, bytes_max, 10.0), 0.0
    for step, number, records in steps:
        if step == "keep":
            cache.keep(_key(number), _reply(ttl=20, records=records), "server", now)
        elif step == "find":
            entry = cache.find(_key(number), now)
            if entry is not None:
                entry.recent = True
        else:
            now += number
        assert len(cache) <= entries_max
        assert cache.size_bytes <= bytes_max
        assert cache.size_bytes >= len(cache) * ENTRY_OVERHEAD_BYTES
    cache.flush()
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_what_was_asked_for_lately_stays() -> None:
    """The first to go is the oldest that nobody asked for since it was last spared."""
    cache = Cache(3, 1 << 20, 0.0)
    for number in range(3):
        cache.keep(_key(number), _reply(), "server", 0.0)
    asked = cache.find(_key(0), 1.0)
    assert asked is not None
    asked.recent = True
    cache.keep(_key(3), _reply(), "server", 1.0)
    assert [cache.find(_key(number), 1.0) is not None for number in range(4)] == [True, False, True, True]
    assert cache.counters.evictions == 1


def test_an_answer_is_gone_when_it_is_neither_fresh_nor_stale() -> None:
    """An answer is found until its life and its afterlife are over; an error has no afterlife."""
    cache = Cache(10, 1 << 20, 100.0)
    cache.keep(_key(1), _reply(ttl=60), "server", 0.0)
    failure = replace(_reply(), rcode=2, lifetime_s=0)
    cache.keep(_key(2), failure, "server", 0.0)
    assert [cache.find(_key(1), now) is not None for now in (0.0, 59.9, 60.0, 159.9)] == [True] * 4
    assert [cache.find(_key(2), now) is not None for now in (0.0, 1.9)] == [True] * 2
    assert cache.find(_key(2), 2.0) is None
    assert cache.find(_key(1), 160.0) is None
    assert cache.size_bytes == 0


def test_truncated_answers_are_not_kept() -> None:
    """Half an answer is for the client that asked, not for the next."""
    cache = Cache(10, 1 << 20, 100.0)
    cache.keep(_key(1), replace(_reply(), flags=0x8200), "server", 0.0)
    assert len(cache) == 0


RECORDS: dict[str, list[tuple[str, int, *tuple[str, ...]]]] = {
    "one": [("A", 60, "192.0.2.1")],
    "three": [("A", 60, "192.0.2.1", "192.0.2.2", "192.0.2.3")],
    "of two lives": [("CNAME", 90, "cdn.example."), ("A", 60, "192.0.2.1")],
    "forty": [("A", 60, *[f"192.0.2.{n}" for n in range(40)])],
    "denied": [],
}
OPTS = st.sampled_from([(0, False), *[(size, do) for size in (512, 1232, 4096, 900) for do in (False, True)]])
"""The size that a client takes, 0 for one without EDNS, and whether it wants DNSSEC."""
FLAGS = st.sampled_from(["RD", "RD AD", "RD CD", "RD AD CD", "", "AD"])


def _said(records: list[tuple[str, int, *tuple[str, ...]]], *, authentic: bool, options: bool) -> Reply:
    """Return what an upstream says: these records (type, TTL, data), one after another, or that there is none."""
    message = dns.message.make_response(dns.message.make_query("www.example", "A", use_edns=0))
    message.flags |= dns.flags.RA | (dns.flags.AD if authentic else 0)
    if options:
        message.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.FORGED_ANSWER, "forged")])
    owner = "www.example."
    for qtype, ttl_s, *rdata in records:
        message.answer.append(dns.rrset.from_text(owner, ttl_s, "IN", qtype, *rdata))
        owner = rdata[0]
    if not records:
        message.set_rcode(dns.rcode.NXDOMAIN)
        message.authority.append(dns.rrset.from_text("example.", 90, "IN", "SOA", "ns. host. 1 2 3 4 60"))
    reply = read(message.to_wire(max_size=65535), KEY, KIND)
    assert reply is not None
    return reply


KEY, KIND = b"\3www\7example\0", b"\0\1\0\1"
GENERATION = 7


@given(st.sampled_from(list(RECORDS)), OPTS, st.booleans(), st.booleans(), FLAGS, st.integers(0, 59))
def test_answers_at_once_are_those_of_a_parsed_query(
    records: str,
    opt: tuple[int, bool],
    authentic: bool,  # noqa: FBT001 - hypothesis's arguments
    options: bool,  # noqa: FBT001
    flags: str,
    age_s: int,
) -> None:
    """What is answered without parsing equals what `answer` makes for the same client; what is not common is left."""
    size, dnssec_ok = opt
    asked = dns.message.make_query(
        "WWW.example", "A", use_edns=0 if size else -1, payload=size, want_dnssec=dnssec_ok, id=99
    )
    asked.flags = dns.flags.from_text(flags)
    packet = asked.to_wire()
    query = _query(packet)
    cache = Cache(10, 1 << 20, 0.0)
    key = cache_key(KEY, KIND, ("CD" in flags) | dnssec_ok << 1)
    cache.keep(key, _said(RECORDS[records], authentic=authentic, options=options), "server", 100.0)
    entry = cache.find(key, 100.0)
    assert entry is not None
    entry.not_ours_in = GENERATION
    now = 100.0 + age_s
    quick = cache.at_once(packet, GENERATION, now)
    plain = entry.answer(packet, query, udp_limit(query.edns), now)
    common = "RD" in flags and size != 900 and not options and age_s < 54 and not plain[2] & 0x02
    assert (quick is not None) == (common and len(entry.reply.body) + len(packet) <= udp_limit(query.edns))
    assert quick in {None, plain}
    assert cache.counters.hits == entry.hits == (quick is not None)
    assert read_tally(cache.counters.at_once) == ({(1, plain[3] & 15): 1} if quick else {})


def test_what_may_be_ours_is_not_answered_at_once() -> None:
    """Only in the generation in which a name was not ours does the cache speak first; a chain is looked at again."""
    packet = _packet()
    for records, known, generation, answered in (
        ("one", GENERATION, GENERATION, True),
        ("one", GENERATION, GENERATION + 1, False),
        ("one", NO_GENERATION, 0, False),
        ("of two lives", GENERATION, GENERATION, False),
    ):
        cache = Cache(10, 1 << 20, 0.0)
        reply = _said(RECORDS[records], authentic=False, options=False)
        cache.keep(cache_key(KEY, KIND, 0), reply, "server", 0.0, known)
        assert (cache.at_once(packet, generation, 1.0) is not None) == answered, (records, known, generation)


@given(
    st.binary(max_size=60)
    | st.builds(lambda cut, tail: _packet(edns=True)[:cut] + tail, st.integers(0, 60), st.binary(max_size=20))
)
def test_any_bytes_are_answered_or_left(packet: bytes) -> None:
    """Whatever comes, nothing is raised, and what is answered is the question that was kept."""
    cache = Cache(10, 1 << 20, 0.0)
    cache.keep(cache_key(KEY, KIND, 0), _reply(), "server", 0.0, GENERATION)
    message = cache.at_once(packet, GENERATION, 1.0)
    if isinstance(message, bytes):
        assert packet[12:].lower().startswith(KEY + KIND)
        assert message[:2] == packet[:2]
        dns.message.from_wire(message)


@given(st.booleans(), st.integers(0, 59))
def test_times_to_live_count_down(edns: bool, age_s: int) -> None:  # noqa: FBT001 - hypothesis's argument
    """A record that was kept for a while lives for what is left."""
    packet = _packet(edns=edns)
    entry = Entry(_reply(), "server", 100.0, 60, dnssec_ok=False)
    message = entry.answer(packet, _query(packet), 512, 100.0 + age_s)
    assert dns.message.from_wire(message).answer[0].ttl == 60 - age_s
    assert entry.answer(packet, _query(packet), 60, 100.0 + age_s)[2] & 0x02, "an answer over the limit says TC"
