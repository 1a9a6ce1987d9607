"""What verification sends and what must become of it. Pure: `probe.py` sends, `judge.py` says what an answer proves.

What must happen to a packet is not decided here: the simulator walks the rules of the configuration, and a check
says that the kernel agrees. That a lookup arrived is proven by a name that is drawn anew and that nobody but our
resolver can answer (RFC 6761, section 6.4); that a rule was met, by its counter.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final
from zlib import crc32

from meshdns.capture.policy.ruleset import Protocol, Rule, RuleSet, SetZone
from meshdns.capture.policy.simulate import Packet, Verdict, holds, simulate
from meshdns.capture.policy.spec import Address, CaptureSpec, Family, Network, Server
from meshdns.capture.policy.terms import LISTENER
from meshdns.capture.prove.exchange import Probe, Sender
from meshdns.capture.prove.leaving import ANOTHER_INTERFACE, Way, hindrance

DNS_PORT: Final = 53
KNOCK_PORT: Final = 1
"""tcpmux (RFC 1078): hardly anybody listens, and a connection that says nothing asks for nothing."""
HELLO: Final = b"meshdns verify\n"
"""What our own listener says, to prove that a connection to this machine came to it."""
TXT: Final = 16
RECURSION_DESIRED: Final = 0x0100
HEADER: Final = struct.Struct("!6H")
RESPONSE: Final = 0x80
SAMPLES: Final = (Server(ip_network("192.0.2.53/32")), Server(ip_network("2001:db8::53/128")))
"""Servers that nobody listed (RFC 5737, RFC 3849): asked where every server is captured."""


class Kind(enum.Enum):
    """What a check sends."""

    LOOKUP = "lookup"
    RELAY = "relay"
    POOL = "pool"
    KNOCK = "knock"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Check:
    """A probe and the fate it must meet. `counters`: the rules that must have counted it."""

    step: str
    kind: Kind
    probe: Probe
    verdict: Verdict
    counters: frozenset[str]
    token: str = ""
    server: Server | None = None
    must_leave: bool = True
    """Whether it is a failure that there is no route."""
    hindered: bool = False
    """Whether nothing but the interface that it leaves by keeps it from being captured."""


@dataclass(frozen=True, slots=True)
class Person:
    """A sender in words, with the ids that its packets carry."""

    name: str
    uid: int
    gid: int
    mark: int | None = None

    @property
    def sender(self) -> Sender:
        """Return whom to act as."""
        return Sender(self.uid, self.gid, self.mark)


def exempt(spec: CaptureSpec, somebody: Person) -> tuple[Person, ...]:
    """Return everybody whose traffic is left alone, the proxy first; `somebody` is a captured user."""
    uid, gid = somebody.uid, somebody.gid
    people = [Person(f"the proxy (uid {proxy})", proxy, gid) for proxy in spec.proxy_uids]
    people += [Person(f"the proxy (gid {proxy})", uid, proxy) for proxy in spec.proxy_gids]
    if spec.proxy_mark is not None:
        people.append(Person(f"the proxy (mark {spec.proxy_mark})", uid, gid, spec.proxy_mark))
    people += [Person(f"excluded uid {excluded}", excluded, gid) for excluded in spec.exclude_uids]
    people += [Person(f"excluded gid {excluded}", uid, excluded) for excluded in spec.exclude_owner_groups]
    if spec.owner_groups is not None:
        outside = next(number for number in range(1, len(spec.owner_groups) + 2) if number not in spec.owner_groups)
        people.append(Person(f"gid {outside}, which is not included", uid, outside))
    return tuple(people)


@dataclass(frozen=True, slots=True)
class Planner:
    """Turns a configuration into checks. `nonce`: hex digits that nobody could have guessed; `ways`: the routes."""

    spec: CaptureSpec
    rules: RuleSet
    servers: tuple[Server, ...]
    nonce: str
    suffix: str
    ways: Mapping[Address, Way | None]

    def first_round(self, somebody: Person | None, exempted: tuple[Person, ...]) -> Iterator[Check]:
        """Yield the checks that do not depend on each other. `somebody` None: nobody can be a captured user."""
        for number, server in enumerate(self.servers):
            for protocol in (Protocol.UDP, Protocol.TCP):
                if somebody:
                    yield self.lookup(somebody, server, protocol)
                # One excluded user's lookup is like another's; the proxy's must leave to every server.
                for person in exempted if number == self._first(server) else exempted[:1]:
                    yield self.lookup(person, server, protocol)
        if somebody:
            yield from self._pools(somebody)
            yield from self._excluded(somebody)

    def second_round(self, exempted: tuple[Person, ...], asked: Mapping[Server, int]) -> Iterator[Check]:
        """Yield lookups of the proxy's from ports that captured lookups left from: conntrack must keep them apart."""
        for server, port in asked.items():
            for person in exempted:
                check = self.lookup(person, server, Protocol.UDP)
                again = f"{check.step}, from the port of a captured lookup"
                yield replace(check, step=again, probe=replace(check.probe, source_port=port))

    def lookup(self, person: Person, server: Server, protocol: Protocol) -> Check:
        """Return the check that asks `server` for a name of its own."""
        address = _sample(server.network)
        step = f"{protocol.value} lookup at {address} as {person.name}"
        token = f"{self.nonce}{crc32(step.encode()):08x}"  # a name for each, for answers must not be mixed up
        message = query(token, self.suffix)
        payload = message if protocol is Protocol.UDP else struct.pack("!H", len(message)) + message
        probe = Probe(
            sender=person.sender,
            protocol=protocol,
            destination=address,
            port=DNS_PORT,
            payload=payload,
            interface=server.interface if address.is_link_local else None,
        )
        check = self._check(step, Kind.LOOKUP, probe, person)
        return replace(check, token=token, server=server, must_leave=server not in SAMPLES)

    def _pools(self, person: Person) -> Iterator[Check]:
        """Yield the relay's probe, and a datagram to an allocated address, which nothing carries."""
        if not self.spec.pools:
            return
        # The same offset in each pool, the last of the smallest: never leased, known to the relay.
        last = min(pool.num_addresses for pool in self.spec.pools) - 1
        for pool in self.spec.pools:
            if Family.of(pool) not in self.spec.families:
                continue
            address = pool[last]
            probe = Probe(sender=person.sender, protocol=Protocol.TCP, destination=address, port=1)
            yield self._check(f"relay at {address}", Kind.RELAY, probe, person, must_leave=False)
            probe = replace(probe, protocol=Protocol.UDP, payload=b"\0")
            yield self._check(f"datagram to pool address {address}", Kind.POOL, probe, person, must_leave=False)

    def _excluded(self, person: Person) -> Iterator[Check]:
        for network in self.spec.exclude_outbound_cidrs:
            address = _sample(network)
            probe = Probe(
                sender=person.sender, protocol=Protocol.TCP, destination=address, port=KNOCK_PORT, answered=False
            )
            step = f"tcp to excluded {network} goes direct"
            yield self._check(step, Kind.KNOCK, probe, person, must_leave=False)

    def local(self, person: Person, listeners: Mapping[Address, int]) -> Iterator[Check]:
        """Yield connections to this machine, where something of ours listens: none of our business."""
        for address, port in listeners.items():
            probe = Probe(sender=person.sender, protocol=Protocol.TCP, destination=address, port=port)
            yield self._check(f"tcp to {address} stays here", Kind.LOCAL, probe, person)

    def _check(self, step: str, kind: Kind, probe: Probe, person: Person, *, must_leave: bool = True) -> Check:
        way = self.ways.get(probe.destination)
        packet = Packet(
            protocol=probe.protocol,
            destination=probe.destination,
            destination_port=probe.port,
            source_port=probe.source_port or None,
            uid=person.uid,
            gid=person.gid,
            mark=person.mark or 0,
            out_interface=probe.interface or (way.interface if way else ANOTHER_INTERFACE),
            local=bool(way and way.local),
        )
        verdict = simulate(self.rules, packet, tuple(Family))
        return Check(
            step=step,
            kind=kind,
            probe=probe,
            verdict=verdict,
            counters=_counters(self.rules, packet, verdict),
            must_leave=must_leave,
            hindered=hindrance(self.rules, packet) is not None,
        )

    def _first(self, server: Server) -> int:
        """Return the position of the first server of that one's family."""
        family = Family.of(server.network)
        return next(number for number, one in enumerate(self.servers) if Family.of(one.network) is family)


def query(token: str, suffix: str) -> bytes:
    """Return the question for `<token>.<suffix>` TXT (RFC 1035, section 4.1); its id is drawn from the token."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in (token, *suffix.split(".")))
    return HEADER.pack(_id(token), RECURSION_DESIRED, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, TXT, 1)


def is_ours(data: bytes, token: str, *, stream: bool) -> bool:
    """Return whether `data` is the resolver's answer to `query(token)`: a TXT that says the token back."""
    message = data[2:] if stream else data
    if len(message) < HEADER.size or message[:2] != _id(token).to_bytes(2, "big") or not message[2] & RESPONSE:
        return False
    return b"v=1 %b " % token.encode() in message[HEADER.size :]


def _counters(rules: RuleSet, packet: Packet, verdict: Verdict) -> frozenset[str]:
    """Return the ids of the rules that must count the packet or its answer."""
    met: set[str] = {verdict.rule.id} if verdict.rule else set()
    if verdict.zone is not None:
        answer = Packet(
            protocol=Protocol.UDP,
            destination=packet.destination,
            source=LISTENER[packet.family].network_address,
            source_port=verdict.port,
            out_interface="lo",
        )
        met |= {rule.id for rule in rules.rules() if _sets_zone(rule, packet) or _sets_zone(rule, answer)}
    return frozenset(met)


def _sets_zone(rule: Rule, packet: Packet) -> bool:
    return isinstance(rule.action, SetZone) and holds(rule.match, packet, tuple(Family))


def _sample(network: Network) -> Address:
    """Return the address of a single host, or a host in the middle of nowhere in particular of a larger network."""
    return network[0] if network.num_addresses == 1 else network[1]


def _id(token: str) -> int:
    return int(token[-4:], 16)
