"""What is wrong with a machine before capture is installed, or why it does not work: each finding with its fix. Pure.

A check looks at the facts and at what is to be installed, and yields findings; `CHECKS` gives each its id, which is how
a finding is known in documents and scripts. What nobody could look at is no finding: `Facts.unseen` lists it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from meshdns.capture.policy.spec import Address, CaptureSpec, Family, OnResolverDown, Ports
from meshdns.capture.prove.facts import FORWARDERS, Facts

OLDEST_KERNEL: Final = (5, 10)
OLDEST_NFT: Final = (1, 0, 1)
OLDEST_IPTABLES: Final = (1, 8, 7)
DOCKER_DNS: Final = IPv4Address("127.0.0.11")
RESOLVED: Final = (IPv4Address("127.0.0.53"), IPv4Address("127.0.0.54"))
MESHES: Final = {
    "ISTIO_": "Istio",
    "istio": "Istio",
    "PROXY_INIT_": "Linkerd",
    "KUMA_": "Kuma",
    "MESH_": "Kuma",
    "CONSUL_": "Consul",
    "consul": "Consul",
    "TEL_": "Telepresence",
    "sshuttle": "sshuttle",
    "ts-": "Tailscale",
    "CILIUM_": "Cilium",
}
"""How the chains or tables of those begin who capture traffic as well."""
BYPASSES: Final = {
    "resolve": "it asks systemd-resolved over D-Bus",
    "myhostname": "it answers this machine's own names",
    "mdns": "it asks the local network by multicast",
    "mdns4": "it asks the local network by multicast",
    "mdns_minimal": "it asks the local network by multicast",
    "mdns4_minimal": "it asks the local network by multicast",
}
PORT_TAKEN: Final = "port-taken"
MODULES: Final = {"redirect": "nft_redir", "tproxy": "nft_tproxy", "fib": "nft_fib_inet", "reject": "nft_reject_inet"}


class Level(enum.Enum):
    """How bad a finding is: an error keeps capture from working, a warning will surprise."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a check found: the cause, and what to do about it."""

    level: Level
    cause: str
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A diagnosis under the id of its check."""

    id: str
    diagnosis: Diagnosis


Check = Callable[[Facts, CaptureSpec], Iterator[Diagnosis]]


def examine(facts: Facts, spec: CaptureSpec) -> tuple[Finding, ...]:
    """Return every finding, in the order of the table."""
    return tuple(Finding(name, diagnosis) for name, check in CHECKS.items() for diagnosis in check(facts, spec))


def _error(cause: str, fix: str) -> Diagnosis:
    return Diagnosis(Level.ERROR, cause, fix)


def _warning(cause: str, fix: str) -> Diagnosis:
    return Diagnosis(Level.WARNING, cause, fix)


def _capability(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    if "NET_ADMIN" in facts.capabilities:
        return
    if facts.uid == 0:
        yield _error("root lacks CAP_NET_ADMIN here", "add NET_ADMIN to the capabilities of the (init) container")
    else:
        yield _warning("this user may not install rules", "run `meshdns capture install` as root")


def _kernel(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    if facts.kernel[:2] < OLDEST_KERNEL:
        have, need = (".".join(map(str, version)) for version in (facts.kernel, OLDEST_KERNEL))
        yield _error(f"the kernel is {have}", f"run {need} or later")


def _program(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    oldest = {program: OLDEST_NFT if program == "nft" else OLDEST_IPTABLES for program in facts.programs}
    if not any(version is not None for version in facts.programs.values()):
        yield _error("neither nft nor iptables is installed", "install the package nftables")
    for program, version in facts.programs.items():
        if version and version < oldest[program]:
            have, need = (".".join(map(str, number)) for number in (version, oldest[program]))
            yield _warning(f"{program} is {have}, which is too old", f"install {need} or later")


def _module(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    if not facts.refused:
        return
    needed = sorted({module for word, module in MODULES.items() if word in facts.refused}) or ["nf_tables"]
    yield _error(f"nft or this kernel refuses the rules: {facts.refused}", f"try `modprobe {' '.join(needed)}`")


def _mixed(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    if facts.legacy_rules and facts.nft_rules:
        yield _warning(
            f"{facts.legacy_rules} rules in iptables-legacy and {facts.nft_rules} in nf_tables: packets meet both, and "
            "`iptables -L` shows one of them",
            "move the older ones: `iptables-legacy-save | iptables-nft-restore`, then flush iptables-legacy",
        )


def _docker_dns(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    listed = any(server.network.network_address == DOCKER_DNS for server in spec.dns_servers)
    if listed or any("DOCKER_OUTPUT" in chain for chain in facts.chains or ()):
        yield _warning(
            f"Docker redirects lookups at {DOCKER_DNS} in this namespace",
            "nothing: rules of meshdns come first; names of other containers are forwarded to Docker",
        )


def _other_mesh(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    found = {
        mesh
        for chain in facts.chains or ()
        for begin, mesh in MESHES.items()
        if any(word.startswith(begin) for word in chain.split())
    }
    for mesh in sorted(found):
        yield _warning(
            f"{mesh} has rules here as well", f"let one of them capture: check with `explain` and {mesh}'s own"
        )


def _stub(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    listed = _listed(spec)
    if any(address in RESOLVED for address in listed) and "systemd-resolved" not in facts.forwarders:
        yield _warning(
            "a listed nameserver is systemd-resolved's stub, and whom it asks cannot be seen",
            "start systemd-resolved, or list real nameservers in resolv.conf",
        )


def _nsswitch(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    before_dns = facts.hosts_line[: facts.hosts_line.index("dns")] if "dns" in facts.hosts_line else facts.hosts_line
    asked_by_resolved = facts.forwarders.get("systemd-resolved", ())
    for name in before_dns:
        if name == "resolve" and asked_by_resolved and set(asked_by_resolved) <= set(_listed(spec)):
            continue  # what it cannot answer itself comes to port 53 of these
        if name in BYPASSES:
            yield _warning(
                f"nsswitch.conf asks `{name}` before `dns`: {BYPASSES[name]}, not by port 53",
                f"put `dns` before `{name}` in the hosts line of /etc/nsswitch.conf",
            )
    if "dns" not in facts.hosts_line:
        yield _warning("nsswitch.conf never asks `dns`", "add `dns` to the hosts line of /etc/nsswitch.conf")


def _loop(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    listed = _listed(spec)
    takes_all = any(not server.network.prefixlen for server in spec.dns_servers)
    local = [address for address in listed if address.is_loopback]
    for name, upstreams in facts.forwarders.items():
        if FORWARDERS.get(name) == spec.resolv_conf:
            continue  # whom it asks is what the resolver asks, too, and not the forwarder
        captured = [address for address in upstreams if (address in listed or takes_all) and not address.is_loopback]
        if captured and (local or takes_all):
            asked = ", ".join(map(str, local or captured))
            yield _error(
                f"{name} (at {asked}) forwards to {', '.join(map(str, captured))}, which is captured too: a loop",
                f"list one of them only, or give `--exclude-uid` with the user that {name} runs as",
            )


def _port_taken(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    wanted = {
        ("udp", spec.dns_port): "resolver",
        ("tcp", spec.dns_port): "resolver",
        ("tcp", spec.outbound_port): "relay",
    }
    # A listener for each address, but one finding.
    for protocol, port, uid in dict.fromkeys((one.protocol, one.port, one.uid) for one in facts.listeners):
        ours = wanted.get((protocol, port))
        # A socket that systemd opened and hands over belongs to root.
        if ours and uid not in {*spec.proxy_uids, 0}:
            yield _error(
                f"{protocol} port {port}, the {ours}'s, belongs to uid {uid}",
                f"end that program, give another port, or add {uid} to --proxy-uid if it is the {ours}",
            )


def _pool_route(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    for network, interface in facts.pool_routes:
        yield _warning(
            f"{network} is routed by {interface}, and leases come from there",
            "use another pool: leased addresses hide what lives there",
        )


def _no_route(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    for server in spec.dns_servers:
        address = server.network.network_address
        if Family.of(address) in spec.families and not facts.reachable.get(address, True):
            yield _error(f"no route to nameserver {address}", "rules see only what has a route: add one")
    for pool in spec.pools:
        if Family.of(pool) in spec.families and not facts.reachable.get(pool[1], True):
            yield _error(
                f"no route to the pool {pool}: leased addresses cannot be connected to",
                f"add a default route, or `ip route add {pool} dev lo`",
            )


def _lo_down(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    if not facts.lo_up:
        yield _error("interface lo is down: nothing reaches the resolver", "`ip link set lo up`")


def _ssh(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    for port in sorted(facts.ssh_ports):
        if _within(port, spec.inbound_ports) and not _within(port, spec.exclude_inbound_ports):
            yield _error(
                f"--inbound-ports takes port {port}, where SSH comes in: you would be locked out",
                f"add `--exclude-inbound-ports {port}`, and install with `--commit-timeout`",
            )


def _saved(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    for path, text in facts.saved.items():
        if "table inet meshdns" not in text and "MESHDNS_" not in text:
            continue
        if "!= @alive" in text or "! --rcheck" in text:
            yield _error(
                f"{path} holds rules of meshdns with --on-resolver-down {OnResolverDown.CLOSED.value}: after a restart "
                "there is no DNS until the resolver runs",
                f"remove them from {path}: `meshdns vm onboard` installs a unit for that",
            )
        else:
            yield _warning(f"{path} holds rules of meshdns: old ones come back", f"remove them from {path}")


def _cilium(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    if any(name.startswith("cilium_") for name in facts.interfaces):
        yield _warning(
            "Cilium is here: its socket load balancing may translate a service's address before any rule sees it",
            "set `socketLB.hostNamespaceOnly=true` in Cilium",
        )


def _cache(facts: Facts, spec: CaptureSpec) -> Iterator[Diagnosis]:
    for name in sorted(facts.caches):
        if name == "nscd" or any(address in RESOLVED for address in _listed(spec)):
            flush = "nscd --invalidate=hosts" if name == "nscd" else "resolvectl flush-caches"
            yield _warning(f"{name} caches answers from before capture", f"flush it after install: `{flush}`")


def _listed(spec: CaptureSpec) -> tuple[Address, ...]:
    return tuple(server.network.network_address for server in spec.dns_servers if server.network.prefixlen)


def _within(port: int, ranges: tuple[Ports, ...]) -> bool:
    return any(some.first <= port <= some.last for some in ranges)


CHECKS: Final[Mapping[str, Check]] = {
    "capability": _capability,
    "kernel-old": _kernel,
    "program-missing": _program,
    "module-missing": _module,
    "legacy-and-nft": _mixed,
    "docker-dns": _docker_dns,
    "other-mesh": _other_mesh,
    "resolved-stub": _stub,
    "nsswitch-bypass": _nsswitch,
    "dns-loop": _loop,
    PORT_TAKEN: _port_taken,
    "pool-routed": _pool_route,
    "no-route": _no_route,
    "lo-down": _lo_down,
    "ssh-lockout": _ssh,
    "saved-rules": _saved,
    "cilium-socket-lb": _cilium,
    "dns-cache": _cache,
}
