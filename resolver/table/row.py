"""What a loading child hands over: one plain `Row` per host, and the `Common` part that all of them share.

Only integers, strings, bytes, booleans, None and tuples of these, so that a row may cross a process border or rest on
disk in any encoding that knows these. Nothing here decides anything: `build` makes rows, `live.Assembler` takes them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

Address = IPv4Address | IPv6Address


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


class Row(NamedTuple):
    """One host. Names are in wire form and lower case; record sections are ready, their owners 0xC00C.

    `host` is as manifests have it, `*.` included; then `key` is the wildcard's parent. `direct`: a Kubernetes name,
    never put behind a CNAME; `aliases` are its short names. `a` and `aaaa` are always answered; `lease_a` and
    `lease_aaaa` only while leases of that family are (`live.Table.answer_leases`). `lease` are the packed addresses of
    the pools, whatever of them is answered. `cname` is an ExternalName's target. `srv` maps `_port._proto` (wire form,
    no root) to SRV data up to the target. `pointers` are the packed addresses whose PTR names this host. `unanswered`
    says why the host is forwarded: such a row is no name of ours and is kept to explain.
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
    parts: tuple[Part, ...]
    beaten: tuple[Beaten, ...]
    unanswered: str
    notes: tuple[str, ...]


class Common(NamedTuple):
    """What the names of one table share. `soa` is a record without its owner; `zones` are the pools' reverse zones."""

    generation: int
    ttl_s: int
    soa: bytes
    search: tuple[bytes, ...]
    guarded: tuple[bytes, ...]
    zones: tuple[bytes, ...]
    probe_suffix: bytes
