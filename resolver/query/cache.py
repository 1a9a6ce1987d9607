"""What upstreams said, kept for as long as they said and, should they fall silent, a while longer.

Bounded by entries and by bytes; what was not asked for since its last turn goes first. Whether an old answer may be
given, and when a popular one is asked for anew, is decided in `forward`. RFC 2308, RFC 8767.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from struct import Struct
from typing import Final, NamedTuple

from meshdns.resolver.query.finish import QR_AND_RA, RD_AND_CD, Reason, aged, finish, option, with_ttl
from meshdns.resolver.query.reply import AD, HEADER_BYTES, NXDOMAIN, Reply
from meshdns.resolver.query.wire import Query, opt_record

FAILURE_TTL_S: Final = 2
"""How long a SERVFAIL is believed (RFC 9520: at least 1 s, at most 5 min)."""

STALE_TTL_S: Final = 30
"""Time to live of an answer that is past its own (RFC 8767, section 4)."""

POPULAR_HITS: Final = 3
REFRESH_PART: Final = 0.1
REFRESH_TTL_MIN_S: Final = 10
"""An answer asked for so often is refreshed in the last tenth of its life, if that life is worth it."""

ENTRY_OVERHEAD_BYTES: Final = 950
"""An entry that was asked for, without its records and name, measured with tracemalloc on CPython 3.11."""

STALE_ANSWER: Final = Reason(3)
STALE_NXDOMAIN: Final = Reason(19)
CACHED_ERROR: Final = Reason(13)
"""RFC 8914, sections 4.4, 4.20 and 4.14."""

_HEAD: Final = Struct("!HH")
_COUNTS: Final = Struct("!HHHH")


class Key(NamedTuple):
    """What an answer is kept under: the name in lower-case wire form, its type, and the bits that change the answer."""

    name: bytes
    qtype: int
    bits: int


@dataclass(slots=True)
class CacheCounters:
    """What the cache did so far."""

    hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    evictions: int = 0
    refreshes: int = 0


class _Ready(NamedTuple):
    """The pieces of a message about an answer of this age: all but the client's id, flags and question."""

    age_s: int
    flags: int
    counts: bytes
    counts_edns: bytes
    body: bytes
    opt: bytes


class Entry:
    """One answer, and what is known of how it is asked for."""

    __slots__ = (
        "_dnssec_ok", "_ready",
        "failed_s", "fresh_until_s", "good", "hits", "recent", "refresh_at_s", "reply", "server", "stored_s",
    )  # fmt: skip

    def __init__(self, reply: Reply, server: str, now: float, lifetime_s: int, *, dnssec_ok: bool) -> None:
        """Keep `reply` of `server` from now on for `lifetime_s`."""
        self.reply = reply
        self.good = reply.good
        self.server = server
        self.stored_s = now
        self.fresh_until_s = now + lifetime_s
        worth_it = lifetime_s >= REFRESH_TTL_MIN_S
        self.refresh_at_s = self.fresh_until_s - lifetime_s * REFRESH_PART if worth_it else inf
        self.failed_s = -inf
        self.hits = 0
        self.recent = False
        self._dnssec_ok = dnssec_ok
        self._ready: _Ready | None = None

    @property
    def size_bytes(self) -> int:
        """What it holds besides the overhead; the body twice, as it came and as it was last sent."""
        return 2 * len(self.reply.body) + len(self.reply.options)

    def answer(self, packet: bytes, query: Query, limit: int, now: float) -> bytes:
        """Return the message for the client that asked `packet`, with its times to live counted down."""
        ready = self._ready
        age_s = int(now - self.stored_s)
        if ready is None or ready.age_s != age_s:
            ready = self._ready = self._made_ready(age_s)
        flags = ready.flags | query.flags & RD_AND_CD
        edns = query.edns
        if flags & AD and not query.flags & AD and (edns is None or not edns.dnssec_ok):
            flags ^= AD
        head = _HEAD.pack(query.id, flags)
        if edns is None:
            message = head + ready.counts + packet[HEADER_BYTES : query.end] + ready.body
        else:
            message = head + ready.counts_edns + packet[HEADER_BYTES : query.end] + ready.body + ready.opt
        if len(message) <= limit:
            return message
        return finish(self.reply._replace(body=ready.body), packet, query, limit)

    def _made_ready(self, age_s: int) -> _Ready:
        """Make the pieces when somebody asks, once a second: most answers are never asked for again."""
        reply = self.reply
        answers, authorities, additionals = reply.counts
        options = reply.options if self.good else reply.options + option(CACHED_ERROR)
        return _Ready(
            age_s,
            QR_AND_RA | reply.flags & AD | reply.rcode & 15,
            _COUNTS.pack(1, answers, authorities, additionals),
            _COUNTS.pack(1, answers, authorities, additionals + 1),
            aged(reply, age_s) if age_s else reply.body,
            opt_record(reply.rcode, dnssec_ok=self._dnssec_ok, options=options),
        )

    def stale_answer(self, packet: bytes, query: Query, limit: int) -> bytes:
        """Return the message of an answer past its life, marked as such."""
        reply = self.reply._replace(body=with_ttl(self.reply, STALE_TTL_S))
        reason = STALE_NXDOMAIN if reply.rcode == NXDOMAIN else STALE_ANSWER
        return finish(reply, packet, query, limit, option(reason))


class Cache:
    """Answers by key. With `entries_max` 0 nothing is kept."""

    __slots__ = ("_entries", "bytes_max", "counters", "entries_max", "size_bytes", "stale_for_s")

    def __init__(self, entries_max: int, bytes_max: int, stale_for_s: float) -> None:
        """Keep at most so much, and an answer for `stale_for_s` beyond its life."""
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self.entries_max = entries_max
        self.bytes_max = bytes_max
        self.stale_for_s = stale_for_s
        self.size_bytes = 0
        self.counters = CacheCounters()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key, now: float) -> Entry | None:
        """Return what is kept under the key, fresh or stale."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.fresh_until_s and (not entry.good or now >= entry.fresh_until_s + self.stale_for_s):
            self._remove(key)
            return None
        return entry

    def keep(self, key: Key, reply: Reply, server: str, now: float) -> None:
        """Keep a reply for as long as it says: a good one of no lifetime not at all, an error for a moment."""
        lifetime_s = reply.lifetime_s if reply.good else FAILURE_TTL_S
        if reply.truncated or lifetime_s <= 0:
            return
        entries = self._entries
        if key in entries:
            self._remove(key)
        entry = Entry(reply, server, now, lifetime_s, dnssec_ok=bool(key.bits & DNSSEC_OK))
        cost = _cost(key, entry)
        if not self.entries_max or cost > self.bytes_max:
            return
        while len(entries) >= self.entries_max or self.size_bytes + cost > self.bytes_max:
            self._evict()
        entries[key] = entry
        self.size_bytes += cost

    def flush(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.size_bytes = 0

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= _cost(key, entry)

    def _evict(self) -> None:
        """Drop the first entry that nobody asked for since it stood here last; each gets one more turn."""
        while True:
            key, entry = self._entries.popitem(last=False)
            if not entry.recent:
                self.size_bytes -= _cost(key, entry)
                self.counters.evictions += 1
                return
            entry.recent = False
            self._entries[key] = entry


CHECKING_DISABLED: Final = 1
DNSSEC_OK: Final = 2
"""Bits of a key."""


def _cost(key: Key, entry: Entry) -> int:
    return ENTRY_OVERHEAD_BYTES + len(key.name) + entry.size_bytes
