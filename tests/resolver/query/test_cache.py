"""The cache's bounds, and that its quick way of answering says what the plain one does."""

from __future__ import annotations

import dns.message
import dns.rcode
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.query.cache import ENTRY_OVERHEAD_BYTES, Cache, Entry, Key
from meshdns.resolver.query.finish import finish
from meshdns.resolver.query.reply import Reply, read
from meshdns.resolver.query.wire import Query, parse


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
    return Key(bytes([len(name)]) + name + b"\0", 1, 0)


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
    failure = _reply()._replace(rcode=2, lifetime_s=0)
    cache.keep(_key(2), failure, "server", 0.0)
    assert [cache.find(_key(1), now) is not None for now in (0.0, 59.9, 60.0, 159.9)] == [True] * 4
    assert [cache.find(_key(2), now) is not None for now in (0.0, 1.9)] == [True] * 2
    assert cache.find(_key(2), 2.0) is None
    assert cache.find(_key(1), 160.0) is None
    assert cache.size_bytes == 0


def test_truncated_answers_are_not_kept() -> None:
    """Half an answer is for the client that asked, not for the next."""
    cache = Cache(10, 1 << 20, 100.0)
    cache.keep(_key(1), _reply()._replace(flags=0x8200), "server", 0.0)
    assert len(cache) == 0


FLAGS = st.sampled_from(["", "RD", "RD AD", "RD CD", "AD CD"])


@given(st.booleans(), st.booleans(), st.booleans(), FLAGS, st.integers(0, 59))
def test_quick_answers_are_those_of_the_plain_way(
    edns: bool,  # noqa: FBT001 - hypothesis's arguments
    dnssec_ok: bool,  # noqa: FBT001
    authentic: bool,  # noqa: FBT001
    flags: str,
    age_s: int,
) -> None:
    """A ready answer equals the one that `finish` makes, for every kind of client, and its TTLs have counted down."""
    dnssec_ok = dnssec_ok and edns
    packet = _packet("WWW.example", edns=edns, dnssec_ok=dnssec_ok, flags=flags)
    reply, query = _reply(authentic=authentic), _query(packet)
    entry = Entry(reply, "server", 100.0, 60, dnssec_ok=dnssec_ok)
    quick = entry.answer(packet, query, 512, 100.0 + age_s)
    fresh = Entry(reply, "server", 100.0, 60, dnssec_ok=dnssec_ok).answer(packet, query, 512, 100.0)
    assert fresh == finish(reply, packet, query, 512)
    assert len(quick) == len(fresh)
    assert dns.message.from_wire(quick).answer[0].ttl == 60 - age_s
    assert entry.answer(packet, query, 60, 100.0 + age_s)[2] & 0x02, "an answer over the limit says TC"
