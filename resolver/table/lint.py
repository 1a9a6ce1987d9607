"""What is allowed and yet not what people expect of a name: the lints that look at what would be answered. Pure.

Why a host has no answer is decided in `candidates`, who gets it in `settle`; here that is only told, at the object
whose author can change it. Rules that a document breaks by itself are `source.validate`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from meshdns.resolver.source import rules
from meshdns.resolver.source.entry import Address, EndpointSlice, Entry, Meta, Network, Service, ServiceEntry
from meshdns.resolver.source.problem import Problem, Rule
from meshdns.resolver.source.syntax import address as parse_address
from meshdns.resolver.table.aliases import guarded_parents, search_keys
from meshdns.resolver.table.candidate import Candidate, Kind, Lease, Visibility
from meshdns.resolver.table.candidates import candidates
from meshdns.resolver.table.claims import claims
from meshdns.resolver.table.names import to_key
from meshdns.resolver.table.pools import Pools
from meshdns.resolver.table.scope import Scope
from meshdns.resolver.table.settle import Settled, settle


@dataclass(frozen=True, slots=True)
class _Told:
    """Everything that the lints look at. `answered`: the hosts of ours that have an answer."""

    scope: Scope
    settled: tuple[Settled, ...]
    entries: dict[tuple[str, str], ServiceEntry]
    answered: dict[str, Candidate]

    def entry(self, claim: Candidate) -> ServiceEntry:
        """Return the ServiceEntry that makes this claim."""
        return self.entries[claim.meta.namespace, claim.meta.name]

    def at_host(self, rule: Rule, claim: Candidate, reason: str) -> Problem:
        """Return a problem with the claim's host, at the place where that is written."""
        field = f"spec.hosts[{self.entry(claim).hosts.index(claim.host)}]" if claim.kind is Kind.ENTRY else ""
        return _problem(rule, claim.meta, field, reason)


def lint(entries: Sequence[Entry], leases: Iterable[Lease], scope: Scope, pools: Pools) -> Iterator[Problem]:
    """Yield what is worth telling about entries that were read without errors; `leases` are those they got."""
    settled = tuple(settle(candidates(entries, leases, scope), scope.namespace))
    told = _Told(
        scope,
        settled,
        {(entry.meta.namespace, entry.meta.name): entry for entry in entries if isinstance(entry, ServiceEntry)},
        {each.host: each.winners[0] for each in settled if _is_answered(each)},
    )
    for each in settled:
        if each.winners[0].short_of:  # told once, at the full name
            yield from _taken(each, told)
            continue
        yield from _unanswered(each, told)
        yield from _taken(each, told)
        yield from _contradictions(each, told)
        for claim in each.winners:
            if claim.kind is Kind.ENTRY and claim.visibility is not Visibility.HIDDEN:
                yield from _cluster_names(claim, told)
                yield from _leased_ports(claim, told)
    for entry in entries:
        if claims((entry,), pools).ranges:
            yield from _in_pools(entry, pools)
    yield from _annotations(settled)


def _is_answered(settled: Settled) -> bool:
    seen = settled.winners[0].visibility is not Visibility.HIDDEN
    return seen and any(each.addresses or each.leased or each.external for each in settled.winners)


def _unanswered(settled: Settled, told: _Told) -> Iterator[Problem]:
    """Say why a host, or one of its entries, adds nothing to what is answered."""
    first = settled.winners[0]
    if first.visibility is Visibility.HIDDEN:
        for claim in settled.winners:
            reason = f"{claim.host} is not exported to namespace {told.scope.namespace}"
            yield told.at_host(rules.NOT_EXPORTED, claim, reason)
        return
    answered = _is_answered(settled)
    for claim in settled.winners:
        if claim.reason:
            what = f"adds no address to {claim.host}" if answered else f"no answer for {claim.host}"
            yield told.at_host(_why(claim, told), claim, f"{what}: {claim.reason}")
    wildcard = None if answered else _covering(settled.host, told)
    if wildcard is not None:
        reason = f"{settled.host} has no answer of its own, so that {wildcard.host} answers it: {wildcard.part.source}"
        yield told.at_host(rules.WILDCARD_ANSWERS, first, reason)


def _why(claim: Candidate, told: _Told) -> Rule:
    if claim.kind is not Kind.ENTRY:
        return rules.NO_ANSWER
    written = told.entry(claim).addresses
    return rules.CIDR_ONLY if any(not isinstance(each, Address) for each in written) else rules.NO_ANSWER


def _covering(host: str, told: _Told) -> Candidate | None:
    """Return the longest wildcard that answers for a host without an answer of its own."""
    _, _, parent = host.removeprefix("*.").partition(".")
    while parent:
        if (found := told.answered.get(f"*.{parent}")) is not None:
            return found
        _, _, parent = parent.partition(".")
    return None


def _taken(settled: Settled, told: _Told) -> Iterator[Problem]:
    """Say who gives way, and by which rule; what is not exported to us is told elsewhere, if nobody has the host."""
    for claim, rule in settled.beaten:
        if claim.visibility is not Visibility.HIDDEN and not claim.short_of:
            reason = f"{claim.host} is answered from {settled.winners[0].part.source}: {rule}"
            yield told.at_host(rules.HOST_TAKEN, claim, reason)


def _contradictions(settled: Settled, told: _Told) -> Iterator[Problem]:
    """Say where entries that are answered together disagree with the first of them."""
    first, *others = settled.winners
    for claim in others:
        for what, theirs, ours in (
            ("resolution", first.part.resolution, claim.part.resolution),
            ("addresses", _sort_of(first), _sort_of(claim)),
            ("a time to live", _ttl(first), _ttl(claim)),
            ("targetPort", _targets(first, claim), _targets(claim, first)),
        ):
            if theirs != ours and "" not in {theirs, ours}:
                reason = f"{claim.host} has {what} {ours}, but {theirs} in {first.part.source}"
                yield told.at_host(rules.CONTRADICTION, claim, reason)


def _sort_of(claim: Candidate) -> str:
    return "of its own" if claim.addresses else "that are leased" if claim.leased else ""


def _ttl(claim: Candidate) -> str:
    return "as everybody" if claim.policy.ttl_s is None else f"of {claim.policy.ttl_s} s"


def _targets(claim: Candidate, other: Candidate) -> str:
    """Return the targets of the ports that both declare."""
    shared = {port.number for port in other.part.ports}
    return ", ".join(
        f"{port.target or port.number} of port {port.number}" for port in claim.part.ports if port.number in shared
    )


def _cluster_names(claim: Candidate, told: _Told) -> Iterator[Problem]:
    """Tell hosts that stand where Kubernetes has its names, and wildcards that would swallow them."""
    domain = told.scope.cluster_domain
    wildcard = claim.host.startswith("*.")
    name = claim.host.removeprefix("*.")
    if wildcard and to_key(name) in guarded_parents(domain, search_keys(told.scope.search)):
        reason = f"{claim.host} covers the cluster domain {domain} or a search suffix of its pods"
        yield told.at_host(rules.CLUSTER_WILDCARD, claim, reason)
    elif name == domain or name.endswith(f".{domain}"):
        reason = f"{claim.host} lies in the cluster domain {domain}: a Service of that name wins, and pods expect one"
        yield told.at_host(rules.CLUSTER_HOST, claim, reason)


def _leased_ports(claim: Candidate, told: _Told) -> Iterator[Problem]:
    """Say what a leased address does not carry as the host's own would. Which one it is, a ledger may know better."""
    if not claim.leased:
        return
    address = f"leased address ({claim.leased[0]} at a first start)"
    ports = ", ".join(str(port.number) for port in claim.part.ports if port.protocol != "UDP")
    reason = (
        f"the {address} hides the ports of {claim.host} that are not declared "
        f"({f'declared: {ports}' if ports else 'none is'}): TCP to them goes to the same port of an endpoint, or is "
        f"refused with --undeclared-ports refuse"
    )
    yield told.at_host(rules.LEASE_HIDES_PORTS, claim, reason)
    for index, port in enumerate(told.entry(claim).ports):
        if port.protocol == "UDP":
            reason = f"UDP port {port.number} of {claim.host} cannot be reached at its {address}"
            yield _problem(rules.LEASE_WITHOUT_UDP, claim.meta, f"spec.ports[{index}].protocol", reason)


def _in_pools(entry: Entry, pools: Pools) -> Iterator[Problem]:
    for field, written in _addresses(entry):
        found = parse_address(written) if isinstance(written, str) else written
        if found is not None and pools.offsets(found):
            reason = f"{found} lies in the pool {pools.v4 if found.version == pools.v4.version else pools.v6}"
            yield _problem(rules.ADDRESS_IN_POOL, entry.meta, field, f"{reason}: nobody is leased it")


def _addresses(entry: Entry) -> Iterator[tuple[str, Address | Network | str]]:
    """Yield the fields in which the entry has addresses, or names, and what stands there."""
    if isinstance(entry, ServiceEntry):
        for index, block in enumerate(entry.addresses):
            yield f"spec.addresses[{index}]", block
        for index, endpoint in enumerate(entry.endpoints):
            yield f"spec.endpoints[{index}].address", endpoint.address
    elif isinstance(entry, Service):
        for index, address in enumerate(entry.cluster_ips):
            yield f"spec.clusterIPs[{index}]", address
    elif isinstance(entry, EndpointSlice):
        for index, part in enumerate(entry.endpoints):
            for position, address in enumerate(part.addresses):
                yield f"endpoints[{index}].addresses[{position}]", address
    else:
        yield "spec.address", entry.endpoint.address


def _annotations(settled: Iterable[Settled]) -> Iterator[Problem]:
    """Tell each object's annotations that were not understood, once."""
    objects = {claim.part.source: claim for each in settled for claim in each.winners if claim.policy.notes}
    for claim in objects.values():
        for note in claim.policy.notes:
            yield _problem(rules.ANNOTATION, claim.meta, f"metadata.annotations['{note.partition(' ')[0]}']", note)


def _problem(rule: Rule, meta: Meta, field: str, reason: str) -> Problem:
    return Problem(meta.origin.file, meta.origin.line, field, rule.id, rule.level, reason, rule.fix)
