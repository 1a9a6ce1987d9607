"""What upstreams said, kept for as long as they said and, should they fall silent, a while longer.

A query that asks as most do gets its message here, without being parsed. Bounded by entries and by bytes; what was not
asked for since its last turn goes first. Whether an old answer may be given, and when a popular one is asked for anew,
is decided in `forward`. RFC 2308, RFC 8767.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import Final

from meshdns.resolver.query.decision import NO_GENERATION, Tally
from meshdns.resolver.query.entry import ASKED_COMMONLY, Entry
from meshdns.resolver.query.plain import Plain
from meshdns.resolver.query.reply import Reply
from meshdns.resolver.query.wire import COMMON_OPTS, DNSSEC_OK_AT, HEADER_BYTES, OPT_BYTES, QUESTION_TAIL_BYTES

FAILURE_TTL_S: Final = 2
"""How long a SERVFAIL is believed (RFC 9520: at least 1 s, at most 5 min)."""

POPULAR_HITS: Final = 3
"""An answer asked for so often is refreshed before its life ends."""

ENTRY_OVERHEAD_BYTES: Final = 950
"""An entry that was asked for, without its records and name, measured with tracemalloc on CPython 3.11."""

CHECKING_DISABLED: Final = 1
DNSSEC_OK: Final = 2
_BITS: Final = (b"\0", b"\1", b"\2", b"\3")
"""The bits of a query that change its answer, as they stand in a key."""

_NOT_NAME_BYTES: Final = QUESTION_TAIL_BYTES + len(_BITS[0])

Key = bytes
"""What an answer is kept under: name in lower-case wire form, type and class, and the bits that change the answer."""


def cache_key(name: bytes, kind: bytes, bits: int) -> Key:
    """Return the key of a lower-case name and four bytes of type and class."""
    return name + kind + _BITS[bits]


@dataclass(slots=True)
class CacheCounters:
    """What the cache did so far. `at_once` counts by type and RCODE what needed no parsing (`read_tally`)."""

    hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    evictions: int = 0
    refreshes: int = 0
    at_once: Tally = field(default_factory=lambda: defaultdict(int))


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

    def at_once(self, packet: bytes, generation: int, now: float) -> bytes | Plain | None:
        """Return the message for a packet that asks as most do, if its name is known not to be ours in this generation.

        Names of ours are to be looked for before. A key is a well-formed name, so bytes that equal one need no check.
        Where nothing is kept under its key, what was read is returned; None for whatever needs a closer look.
        """
        if packet[2:HEADER_BYTES] not in ASKED_COMMONLY:
            return None
        end = packet.find(0, HEADER_BYTES) + 1
        past = end + QUESTION_TAIL_BYTES
        bits = packet[3] >> 4 & CHECKING_DISABLED
        opt = None
        if packet[HEADER_BYTES - 1]:
            opt = COMMON_OPTS.get(packet[past : past + OPT_BYTES])
            if opt is None:
                return None
            if packet[past + DNSSEC_OK_AT] > 0x7F:  # noqa: PLR2004 - DO is the top bit
                bits |= DNSSEC_OK
        name, kind = packet[HEADER_BYTES:end].lower(), packet[end:past]
        key = name + kind + _BITS[bits]
        entry = self._entries.get(key)
        if entry is None:
            return Plain(packet, name, kind, key, past, opt)
        if entry.not_ours_in != generation:
            return None
        made = entry.at_once(packet, past, opt, now)
        if made is None:
            return None
        message, counted = made
        self.counters.hits += 1
        self.counters.at_once[counted] += 1
        return message

    def keep(self, key: Key, reply: Reply, server: str, now: float, not_ours_in: int = NO_GENERATION) -> None:
        """Keep a reply for as long as it says: a good one of no lifetime not at all, an error for a moment.

        `not_ours_in`: the table's generation in which its name is not ours.
        """
        lifetime_s = reply.lifetime_s or (0 if reply.good else FAILURE_TTL_S)
        if lifetime_s <= 0 or reply.truncated:
            return
        entries = self._entries
        if key in entries:
            self._remove(key)
        entry = Entry(reply, server, now, lifetime_s, dnssec_ok=key[-1] & DNSSEC_OK != 0)
        if not reply.chain:
            entry.not_ours_in = not_ours_in
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


def _cost(key: Key, entry: Entry) -> int:
    return ENTRY_OVERHEAD_BYTES + len(key) - _NOT_NAME_BYTES + entry.size_bytes
