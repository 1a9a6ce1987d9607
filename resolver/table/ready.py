"""Answers that are ready to be spliced into a reply: records, and the section counts that go with them.

What they say was decided in `build`; who gets which, in `query`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Final, NamedTuple

A_KIND: Final = b"\0\x01\0\x01"  # type and class as a question has them
AAAA_KIND: Final = b"\0\x1c\0\x01"

A_BYTES: Final = 16  # one A record whose owner is a pointer: 2 + 10 + 4
AAAA_BYTES: Final = 28


class Answer(NamedTuple):
    """A ready answer: section counts after QDCOUNT without and with OPT, and the records.

    With several addresses `records` holds them twice, and the answer is the `length` bytes from the next of `starts`:
    a rotation costs one slice, whatever the number of addresses. `length` is 0 when there is no address. `without` is
    what is answered instead while leases of the family are not, None if there is no lease in it.
    """

    counts: bytes
    counts_edns: bytes
    records: bytes
    starts: Iterator[int] | None
    length: int
    without: Answer | None = None


def answer_of(records: bytes, size: int, without: Answer | None = None) -> Answer:
    """Return the answer of one address RRset whose records are `size` bytes each."""
    length = len(records)
    if length == size:
        return Answer(*_ONE, records, None, size, without)
    counts = section_counts(length // size, 0)
    return Answer(*counts, records * 2, cycle(range(0, length, size)), length, without)


def rotated(answer: Answer) -> bytes:
    """Return the records of an answer, several addresses in the order that is their turn."""
    if answer.starts is None:
        return answer.records
    start = next(answer.starts)
    return answer.records[start : start + answer.length]


def owned_by(owner: bytes, records: bytes, size: int) -> bytes:
    """Give address records another owner."""
    return b"".join([owner + records[at + 2 : at + size] for at in range(0, len(records), size)])


def section_counts(answers: int, authorities: int) -> tuple[bytes, bytes]:
    """Return the counts of answer, authority and additional records, without and with OPT."""
    sections = answers.to_bytes(2, "big") + authorities.to_bytes(2, "big")
    return sections + b"\0\0", sections + b"\0\1"


_ONE: Final = section_counts(1, 0)
