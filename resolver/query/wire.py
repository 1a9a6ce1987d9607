"""DNS messages as bytes: a query is parsed, a reply is put together, an error is said (RFC 1035, 6891, 8914).

Only the shape of messages is known here, never what a name means. No dnslib: a packet from a stranger could cost it
seconds. Every loop is bounded by a constant, since the cost of the worst packet is part of the contract.
"""

from __future__ import annotations

from typing import Final, NamedTuple

HEADER_BYTES: Final = 12
UDP_PLAIN_BYTES: Final = 512  # RFC 1035, section 4.2.1: a client without EDNS
UDP_MOST_BYTES: Final = 4096  # what a client may ask for at most, whatever its OPT says
STREAM_MOST_BYTES: Final = 65535  # RFC 1035, section 4.2.2: two bytes of length
OUR_EDNS_BYTES: Final = 1232  # DNS flag day 2020: fits every path unfragmented


class Edns(NamedTuple):
    """The OPT record of a query (RFC 6891). `start` and `end` are its offsets in the packet; `options` its rdata."""

    size: int
    version: int
    dnssec_ok: bool
    options: bytes
    start: int
    end: int


class Query(NamedTuple):
    """A query as it was asked. A tuple, since one is made for every packet that is forwarded.

    `name` is the question's name in wire form as the client spelt it, `key` the same in lower case, `end` the offset
    just past the question. Of an opcode other than QUERY only the header is read: empty names, type and class 0.
    """

    id: int
    flags: int
    name: bytes
    key: bytes
    qtype: int
    qclass: int
    edns: Edns | None
    end: int
