"""Checks of `doctor`: who is asked for a name, by which way, and whether the resolver is there to be asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final

from meshdns.capture.policy.spec import Address, CaptureSpec, Family, OnResolverDown
from meshdns.capture.policy.terms import DNS, LISTENER
from meshdns.capture.prove.diagnosis import Diagnosis, error, warning
from meshdns.capture.prove.doctor_machine import nat_before_ours
from meshdns.capture.prove.facts import FORWARDERS, Facts, Installed, Nameservers

DOCKER_DNS: Final = IPv4Address("127.0.0.11")
RESOLVED: Final = (IPv4Address("127.0.0.53"), IPv4Address("127.0.0.54"))
RESOLVED_NAME: Final = "systemd-resolved"
ALL_NAMES: Final = "every name"
BYPASSES: Final = {
    "resolve": (ALL_NAMES, "over D-Bus, from systemd-resolved"),
    "myhostname": ("this machine's own names", "without DNS"),
    "mdns": (ALL_NAMES, "by multicast"),
    "mdns4": (ALL_NAMES, "by multicast"),
    "mdns_minimal": ("names under .local", "by multicast"),
    "mdns4_minimal": ("names under .local", "by multicast"),
}
"""Which names a service of nsswitch.conf answers, and how (nss-resolve(8), nss-myhostname(8), nss-mdns's README)."""
OPEN: Final = ("nothing is captured", "lookups pass the resolver by, and go to their nameserver")
CLOSED: Final = ("captured connections are reset", "captured lookups are refused")
"""What becomes of packets without a heartbeat: with --no-dns, and with DNS."""
SHOWN: Final = 3
"""Lines of a file that are complained of; one that is no resolv.conf at all has as many as it likes."""
LONGEST_KEPT_S: Final = 2 * 3600
"""By systemd-resolved (CACHE_TTL_MAX_USEC in resolved-dns-cache.c); by nscd for an hour, if not set higher."""


def docker_dns(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether Docker redirects lookups as well."""
    if DOCKER_DNS in _listed(spec) or any("DOCKER_OUTPUT" in chain for chain in facts.chains or ()):
        yield warning(
            f"Docker redirects lookups at {DOCKER_DNS} in this namespace",
            "see legacy-and-nft"
            if nat_before_ours(facts)
            else "nothing: rules of meshdns come first; names of other containers are forwarded to Docker",
        )


def resolv_conf(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether the file that names the captured nameservers can be read, and names those that are captured."""
    found = facts.known.nameservers
    if found is None:
        return
    if found.trouble:
        yield _unreadable(found)
        return
    if not found.lists_any:
        silent = [server for server in found.servers if not _waits_at(facts, server.network.network_address)]
        yield warning(
            f"{found.path} has no usable nameserver line, so {' and '.join(map(str, found.servers))} are captured, and "
            f"asked for what is not ours{': nobody listens there' if len(silent) == len(found.servers) else ''}",
            "add a line `nameserver ADDRESS` to it, or give --dns-servers",
        )
    if found.unusable:
        more = f"; and {len(found.unusable) - SHOWN} more" if len(found.unusable) > SHOWN else ""
        yield warning(f"{found.path}: {'; '.join(found.unusable[:SHOWN])}{more}", "correct it: such lines are skipped")
    yield from _new_since_install(found, facts.known.standing.installed)


def _unreadable(found: Nameservers) -> Diagnosis:
    if found.leads_to:
        return error(
            f"cannot read the nameservers: {found.path} is a link to {found.leads_to}, which does not exist",
            "start what writes that file, or put a file with nameservers in the link's place",
        )
    return error(
        f"cannot read the nameservers: {found.path}: {found.trouble}",
        "put a file there that all may read, with a line `nameserver ADDRESS`, or give --resolv-conf or --dns-servers",
    )


def _new_since_install(found: Nameservers, installed: Installed | None) -> Iterator[Diagnosis]:
    if installed is None or installed.spec.resolv_conf != found.path:
        return
    new = [
        server
        for server in found.servers
        if server not in installed.spec.dns_servers and Family.of(server.network) in installed.spec.families
    ]
    if new:
        yield warning(
            f"{found.path} lists {', '.join(map(str, new))}, which has come since install and is not captured",
            "run `meshdns capture install` again with the same options, and `meshdns capture watch` to follow the file",
        )


def stub(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether systemd-resolved is behind its stub, and whom it asks."""
    asked = [address for address in _listed(spec) if address in RESOLVED]
    fix = "start systemd-resolved, or list real nameservers in resolv.conf"
    if asked and not any(_waits_at(facts, address) for address in asked):
        yield warning(f"nameserver {asked[0]} is systemd-resolved's stub, and nobody listens there", fix)
    elif asked and RESOLVED_NAME not in facts.forwarders:
        yield warning("a listed nameserver is systemd-resolved's stub, and whom it asks cannot be seen", fix)


def nsswitch(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether libc asks anybody before port 53."""
    for name in _before_dns(facts):
        if name == "resolve" and set(facts.forwarders.get(RESOLVED_NAME, ())) <= set(_listed(spec)):
            continue  # nobody is there, or what it cannot answer itself comes to port 53 of captured servers
        if name in BYPASSES:
            names, how = BYPASSES[name]
            yield warning(
                f"nsswitch.conf asks `{name}` before `dns`: {names} may be answered {how}, not by port 53",
                f"{'' if names == ALL_NAMES else 'if names of the mesh are such, '}put `dns` before `{name}` in the "
                "hosts line of /etc/nsswitch.conf",
            )
    if "dns" not in facts.hosts_line:
        yield warning("nsswitch.conf never asks `dns`", "add `dns` to the hosts line of /etc/nsswitch.conf")


def loop(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether a captured nameserver sends what it is asked to another captured one."""
    listed = _listed(spec)
    takes_all = any(not server.network.prefixlen for server in spec.dns_servers)
    uids = _forwarder_uids(facts)
    if spec.exclude_uids and uids <= {*spec.exclude_uids, *spec.proxy_uids}:
        return
    for name, upstreams in facts.forwarders.items():
        if FORWARDERS.get(name) == spec.resolv_conf:
            continue  # whom it asks is what the resolver asks, too, and not the forwarder
        captured = [address for address in upstreams if (address in listed or takes_all) and not address.is_loopback]
        asked = [one for one in _places(name, listed) if (one in listed or takes_all) and _waits_at(facts, one)]
        if captured and asked:
            at, upstream = (", ".join(map(str, addresses)) for addresses in (asked, captured))
            only = "" if takes_all else "list one of them only, or "
            known = len(uids) == 1 and 0 not in uids
            who = f"`--exclude-uid {min(uids)}`" if known else f"`--exclude-uid` with the user of {name}, not root"
            yield error(
                f"{name} (at {at}) forwards to {upstream}, which is captured too: a loop",
                f"{only}give {who}: its own lookups are then left alone",
            )


def _places(name: str, listed: Iterable[Address]) -> tuple[Address, ...]:
    """Return where a forwarder of that name may listen; NetworkManager's file stands beside systemd-resolved, too."""
    if name == RESOLVED_NAME:
        return RESOLVED
    others = (address for address in listed if address.is_loopback and address not in RESOLVED)
    return tuple(dict.fromkeys((*others, *(network.network_address for network in LISTENER.values()))))


def _forwarder_uids(facts: Facts) -> set[int]:
    """Return who the local name servers run as, where that can be seen: many open their port before they leave root."""
    programs = {program.uid for program in facts.programs_at.get(("udp", DNS.first), ())}
    heard = {
        one.uid
        for one in facts.listeners
        if one.port == DNS.first and (one.address.is_loopback or one.address.is_unspecified)
    }
    return programs or heard - {0}


def heartbeat(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether the resolver keeps the installed rules open."""
    installed = facts.known.standing.installed
    if installed is None:
        return
    spec = installed.spec
    silent = [family.value for family in spec.families if family not in installed.alive]
    if not silent:
        return
    closed = spec.on_resolver_down is OnResolverDown.CLOSED
    uids = " or ".join(map(str, spec.proxy_uids))
    diagnosis = error if closed else warning
    yield diagnosis(
        f"no heartbeat from uid {uids} over {' and '.join(silent)}: " + (CLOSED if closed else OPEN)[spec.dns],
        _how_to_beat(facts, spec, uids),
    )


def _how_to_beat(facts: Facts, spec: CaptureSpec, uids: str) -> str:
    heard = {one.uid for one in facts.listeners if one.protocol == "udp" and one.port == spec.dns_port}
    if not heard:
        return (
            f"start the resolver as uid {uids} (`meshdns resolver run`; after `meshdns vm onboard` its unit): nobody "
            f"listens at UDP port {spec.dns_port}"
        )
    if heard <= {*spec.proxy_uids, 0}:
        return (
            f"`curl -s {facts.known.readyz}` says what the resolver lacks; where it is ready, let what comes in by lo "
            f"pass your firewall, and see that the resolver runs as uid {uids}"
        )
    others = " and ".join(map(str, sorted(heard - {*spec.proxy_uids})))
    return f"run the resolver as uid {uids}: UDP port {spec.dns_port} is uid {others}'s, whose heartbeat does not count"


def cache(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether somebody in front of port 53 may keep answers from before capture."""
    by_resolved = any(address in RESOLVED for address in _listed(spec)) or "resolve" in _before_dns(facts)
    installed = facts.known.standing.installed
    for name in sorted(facts.caches):
        flush = "nscd --invalidate=hosts" if name == "nscd" else "resolvectl flush-caches"
        if name != "nscd" and not by_resolved:
            continue
        if installed is None:
            yield warning(
                f"{name} keeps answers, also those from before capture",
                f"flush it once after install: `{flush}` (`meshdns vm onboard` does it)",
            )
        elif installed.age_s is not None and installed.age_s < LONGEST_KEPT_S:
            yield warning(
                f"{name} may have answers from before capture, which was installed {installed.age_s / 60:.0f} min ago",
                f"`{flush}`, unless that was done since: `meshdns vm onboard` has done it",
            )


def _waits_at(facts: Facts, address: Address) -> bool:
    """Return whether a name server listens at an address of this machine."""
    return any(one.port == DNS.first and one.hears(address) for one in facts.listeners)


def _before_dns(facts: Facts) -> tuple[str, ...]:
    line = facts.hosts_line
    return line[: line.index("dns")] if "dns" in line else line


def _listed(spec: CaptureSpec) -> tuple[Address, ...]:
    return tuple(server.network.network_address for server in spec.dns_servers if server.network.prefixlen)
