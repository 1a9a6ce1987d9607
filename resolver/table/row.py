"""What a loading child hands over: one plain `Row` per host, and the `Common` part that all of them share.

Only integers, strings, bytes, booleans, None and tuples of these, so that a row may cross a process border or rest on
disk. What no query needs is text until somebody asks (`Account`). Nothing here decides anything: `build` makes rows,
`packed` makes each of them one bytes object, `live.Assembler` takes these.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple


class Source(NamedTuple):
    """The object that something comes from, and where it stands."""

    kind: str
    namespace: str
    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name} ({self.file}:{self.line})"


class PortRow(NamedTuple):
    """A declared port; `target` is its targetPort, or None."""

    number: int
    name: str
    protocol: str
    target: int | None


class EndpointRow(NamedTuple):
    """One endpoint: an IP address, a DNS name, or `unix://` and a path; `ports` are (service port name, number)."""

    address: str
    weight: int
    ports: tuple[tuple[str, int], ...]


class Part(NamedTuple):
    """What one object adds to a host. The relay picks the part that declares the port it was connected to."""

    source: Source
    resolution: str
    ports: tuple[PortRow, ...]
    endpoints: tuple[EndpointRow, ...]
    addresses: tuple[str, ...]


class Beaten(NamedTuple):
    """An object that claims the same host and gives way, and the rule by which it does."""

    source: Source
    rule: str


_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Account(NamedTuple):
    """What is told about a host, to people and to the relay: whose objects it comes from, and over whom they won."""

    parts: tuple[Part, ...]
    beaten: tuple[Beaten, ...]
    notes: tuple[str, ...]

    def text(self) -> bytes:
        """Return the account as a row keeps it, in JSON."""
        return _encode(self).encode()


def account_of(text: bytes) -> Account:
    """Read what `Account.text` wrote; ValueError for anything else."""
    try:
        parts, beaten, notes = json.loads(text)
        return Account(
            tuple([_part(*part) for part in parts]),
            tuple([Beaten(Source(*source), rule) for source, rule in beaten]),
            tuple(notes),
        )
    except (TypeError, RecursionError) as error:
        raise ValueError(f"no account of a host: {error}") from error


def _part(
    source: list[Any], resolution: str, ports: list[list[Any]], endpoints: list[list[Any]], addresses: list[str]
) -> Part:
    return Part(
        Source(*source),
        resolution,
        tuple([PortRow(*port) for port in ports]),
        tuple([EndpointRow(name, weight, tuple(map(tuple, numbers))) for name, weight, numbers in endpoints]),
        tuple(addresses),
    )


class Row(NamedTuple):
    """One host. Names are in wire form and lower case; record sections are ready, their owners 0xC00C.

    `host` is as manifests have it, `*.` included; then `key` is the wildcard's parent. `direct`: a Kubernetes name,
    never put behind a CNAME; `aliases` are its short names. `a` and `aaaa` are always answered; `lease_a` and
    `lease_aaaa` only while leases of that family are (`live.Table.answer_leases`). `lease` are the packed addresses of
    the pools, whatever of them is answered. `cname` is an ExternalName's target. `srv` maps `_port._proto` (wire form,
    no root) to SRV data up to the target. `pointers` are the packed addresses whose PTR names this host. `unanswered`
    says why the host is forwarded: such a row is no name of ours and is kept to explain. `told` is its account.
    """

    key: bytes
    host: str
    wildcard: bool
    direct: bool
    namespace: str
    aliases: tuple[bytes, ...]
    ttl_s: int
    forward_other_types: bool
    a: bytes
    aaaa: bytes
    lease: tuple[bytes, ...] | None
    lease_a: bytes
    lease_aaaa: bytes
    cname: bytes
    srv: tuple[tuple[bytes, tuple[bytes, ...]], ...]
    pointers: tuple[bytes, ...]
    unanswered: str
    told: bytes

    @property
    def account(self) -> Account:
        """What is told about the host, read anew each time; ValueError from a row that no build made."""
        return account_of(self.told)


class Common(NamedTuple):
    """What the names of one table share. `soa` is a record without its owner; `zones` are the pools' reverse zones."""

    generation: int
    ttl_s: int
    soa: bytes
    search: tuple[bytes, ...]
    guarded: tuple[bytes, ...]
    zones: tuple[bytes, ...]
    probe_suffix: bytes
