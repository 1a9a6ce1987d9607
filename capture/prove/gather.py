"""Door: everything that `doctor` looks at, gathered once: /proc, files, programs. What may not be looked at is listed.

Nothing here judges. Nothing is changed: the rules are tried in a namespace that ends with the trial.
"""

from __future__ import annotations

import fcntl
import glob
import os
import platform
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Final

from meshdns.capture.dialects.iptables.backend import OLDEST as OLDEST_IPTABLES
from meshdns.capture.dialects.nft.backend import OLDEST as OLDEST_NFT
from meshdns.capture.dialects.nft.render import NAME, render
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.spec import Address, CaptureSpec, Family, Network
from meshdns.capture.prove.facts import FORWARDERS, Facts, Known
from meshdns.capture.prove.leaving import Way
from meshdns.capture.system.holders import Program, holders
from meshdns.capture.system.listeners import Listener, listeners
from meshdns.capture.system.namespace import addresses, global_families
from meshdns.capture.system.netlink import routes
from meshdns.capture.system.nftables import has_table
from meshdns.capture.system.proc import net_lines
from meshdns.capture.system.runner import demand, run
from meshdns.capture.system.xtables import effective_capabilities, legacy_tables

PROGRAMS: Final = {
    "nft": OLDEST_NFT,
    "iptables-nft-restore": OLDEST_IPTABLES,
    "iptables-legacy-restore": OLDEST_IPTABLES,
}
"""What rules are loaded with, and the oldest version that does."""
CAPABILITIES: Final = {"SETGID": 6, "SETUID": 7, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21}
"""linux/capability.h"""
NOWHERE: Final = "*"
"""The interface of routes that refuse or drop (net/ipv4/fib_trie.c); those of IPv6 lead to lo."""
RTF_GATEWAY: Final = 0x2
"""linux/route.h"""
IFF_UP: Final = 0x1
SIOCGIFFLAGS: Final = 0x8913
MAX_FILE_BYTES: Final = 1024 * 1024
SAVED: Final = (
    "/etc/nftables.conf",
    "/etc/sysconfig/nftables.conf",
    "/etc/iptables/rules.v4",
    "/etc/iptables/rules.v6",
)
SSHD: Final = ("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/*.conf")
UNKNOWN: Final = Known()
CACHES: Final = {"nscd": "/run/nscd/socket", "systemd-resolved": "/run/systemd/resolve/stub-resolv.conf"}


def gather(spec: CaptureSpec, known: Known = UNKNOWN) -> Facts:
    """Look at this machine and this namespace, as far as they are ours to see."""
    unseen: list[str] = []
    rules, nft_rules = _nft_chains(unseen)
    legacy, legacy_rules = _legacy_chains(unseen)
    found = tuple(listeners())
    destinations = [server.network.network_address for server in spec.dns_servers if server.network.prefixlen]
    destinations += [pool[1] for pool in spec.pools]
    interfaces = frozenset(line.partition(":")[0].strip() for line in net_lines("dev")[2:])
    return Facts(
        known=known,
        uid=os.geteuid(),
        capabilities=_capabilities(),
        kernel=_version(platform.release()),
        programs={program: _program(program) for program in PROGRAMS},
        oldest=PROGRAMS,
        refused=_refused(spec, unseen),
        chains=None if rules is None and legacy is None else frozenset((*(rules or ()), *(legacy or ()))),
        legacy_rules=legacy_rules,
        nft_rules=nft_rules,
        hosts_line=_hosts_line(),
        interfaces=interfaces,
        up=frozenset(filter(_is_up, interfaces)),
        addressed=global_families(),
        listeners=found,
        programs_at=_programs_at(spec, found, unseen),
        ways=_ways(destinations, unseen),
        pool_routes=tuple(_pool_routes(spec.pools)),
        forwarders={name: _nameservers(path) for name, path in FORWARDERS.items() if Path(path).exists()},
        caches=frozenset(name for name, path in CACHES.items() if Path(path).exists()),
        saved={path: text for path in SAVED if (text := _text(path, unseen))},
        ssh_ports=_ssh_ports(found, unseen),
        unseen=tuple(unseen),
    )


def _capabilities() -> frozenset[str]:
    effective = effective_capabilities()
    held = frozenset(name for name, bit in CAPABILITIES.items() if effective >> bit & 1)
    # Root of a user namespace has all of them, and here none of those that count.
    return held if has_table(NAME) is not None else held - {"NET_ADMIN"}


def _version(text: str) -> tuple[int, ...]:
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _program(name: str) -> tuple[int, ...] | None:
    try:
        return _version(run([name, "--version"]).output)
    except PreflightError:
        return None


def _refused(spec: CaptureSpec, unseen: list[str]) -> str | None:
    """Load our rules where they do nothing; a user who is not root may, inside a user namespace."""
    alone = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
    try:
        demand("nft")  # without which `unshare` would fail, and not the kernel
        if run([*alone, "true"]).exit_code:
            unseen.append("whether this kernel takes the rules: no namespace may be made to try them in")
            return None
        done = run([*alone, "nft", "-f", "-"], render(plan(spec)).text)
    except PreflightError as error:
        unseen.append(f"whether this kernel takes the rules: {error}")
        return None
    if "Operation not permitted" in done.errors:
        unseen.append("whether this kernel takes the rules: they may be tried nowhere: that takes CAP_NET_ADMIN")
        return None
    return "" if done.exit_code == 0 else " ".join(done.errors.split())[:300] or f"exit code {done.exit_code}"


def _nft_chains(unseen: list[str]) -> tuple[frozenset[str] | None, int | None]:
    try:
        done = run(["nft", "-s", "list", "ruleset"])
    except PreflightError:
        return None, None  # the missing program is a finding of its own
    if done.exit_code:
        unseen.append("the rules of nf_tables: that takes CAP_NET_ADMIN")
        return None, None
    table, chain, chains, rules = "", "", set(), 0
    for line in done.output.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:-1])
        elif line.startswith("\t") and line[1:2] not in {"\t", ""}:  # a chain or a set begins or ends
            chain = f"{table} {words[1]}" if words[0] == "chain" else ""
            chains |= {chain} - {""}
        elif chain and words[:1] not in ([], ["type"], ["policy"]):
            rules += table != "inet meshdns" and "MESHDNS" not in f"{chain} {line}"
    return frozenset(chains), rules


def _legacy_chains(unseen: list[str]) -> tuple[frozenset[str] | None, int | None]:
    """Read legacy tables, but only where the kernel has some already: asking a program would create them."""
    chains, rules = set(), 0
    for family, program in ((Family.IPV4, "iptables-legacy-save"), (Family.IPV6, "ip6tables-legacy-save")):
        try:
            if not legacy_tables(family):
                continue
            done = run([program])
        except PreflightError as error:
            unseen.append(f"the rules of iptables-legacy: {error}")
            return None, None
        if done.exit_code:
            said = " ".join(done.errors.split()) or f"exit code {done.exit_code}"
            unseen.append(f"the rules of iptables-legacy: {program} says: {said}")
            return None, None
        chains |= set(re.findall(r"^:(\S+)", done.output, re.MULTILINE))
        rules += sum(line.startswith("-A") and "MESHDNS" not in line for line in done.output.splitlines())
    return frozenset(chains), rules


def _ways(destinations: Iterable[Address], unseen: list[str]) -> dict[Address, Way | None]:
    try:
        found = routes(destinations)
    except PreflightError as error:
        unseen.append(f"whether there are routes to nameservers and pools: {error}")
        return {}
    return {to: Way(route.interface, route.local) if route else None for to, route in found.items()}


def _hosts_line() -> tuple[str, ...]:
    found = re.search(r"^\s*hosts:(.*)$", _text("/etc/nsswitch.conf"), re.MULTILINE)
    return tuple(found[1].partition("#")[0].split()) if found else ("files", "dns")


def _programs_at(
    spec: CaptureSpec, found: Iterable[Listener], unseen: list[str]
) -> dict[tuple[str, int], tuple[Program, ...]]:
    """Look for who holds our ports, and that of a local name server."""
    ours = {("udp", spec.dns_port), ("tcp", spec.dns_port), ("tcp", spec.outbound_port)}
    uids = {(one.protocol, one.port): one.uid for one in found}
    programs = {place: holders(*place) for place in (*sorted(ours), ("udp", 53)) if place in uids}
    for protocol, port in sorted(ours):
        if uids.get((protocol, port)) == 0 and not programs[protocol, port]:
            unseen.append(f"which program has {protocol} port {port}: root opened it, for the resolver or for itself")
    return programs


def _is_up(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sH14x", interface.encode(), 0))
        except OSError:
            return False
    return bool(struct.unpack_from("H", answer, 16)[0] & IFF_UP)


def _pool_routes(pools: Iterable[Network]) -> Iterator[tuple[Network, str]]:
    wanted, ours = tuple(pools), addresses()
    found: list[tuple[Network, str, bool]] = [*_routes4(), *_routes6()]
    for network, interface, by_gateway in found:
        for_leases = network in wanted and not by_gateway and not any(address in network for address in ours)
        if network.prefixlen and not for_leases and any(_overlap(network, pool) for pool in wanted):
            yield network, interface


def _overlap(network: Network, other: Network) -> bool:
    """Return whether two networks, whose routes would meet, share an address."""
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.overlaps(other)
    return isinstance(other, IPv6Network) and network.overlaps(other)


def _routes4() -> Iterator[tuple[IPv4Network, str, bool]]:
    """Yield destination, interface and whether there is a gateway."""
    for line in net_lines("route")[1:]:
        words = line.split()
        prefix = int.from_bytes(bytes.fromhex(words[7])[::-1], "big").bit_count()
        if words[0] not in {"lo", NOWHERE}:
            network = IPv4Network((bytes.fromhex(words[1])[::-1], prefix), strict=False)
            yield network, words[0], bool(int(words[3], 16) & RTF_GATEWAY)


def _routes6() -> Iterator[tuple[IPv6Network, str, bool]]:
    for line in net_lines("ipv6_route"):
        words = line.split()
        if words[9] != "lo":
            network = IPv6Network((bytes.fromhex(words[0]), int(words[1], 16)), strict=False)
            yield network, words[9], bool(int(words[8], 16) & RTF_GATEWAY)


def _nameservers(path: str) -> tuple[Address, ...]:
    found = re.findall(r"^\s*nameserver\s+([0-9a-fA-F.:]+)", _text(path), re.MULTILINE)
    return tuple(address for text in found if (address := _address(text)))


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _ssh_ports(listeners: Iterable[Listener], unseen: list[str]) -> frozenset[int]:
    """Return where this session came in, and where an SSH server may listen."""
    used = os.environ.get("SSH_CONNECTION", "").split()
    files = [path for pattern in SSHD for path in sorted(glob.glob(pattern))]  # noqa: PTH207 - of whole paths
    settings = "\n".join(_text(path, unseen) for path in files)
    named = {int(number) for number in re.findall(r"^\s*Port\s+(\d+)", settings, re.MULTILINE)}
    listening = {listener.port for listener in listeners if listener.protocol == "tcp"}
    return frozenset(({22} | named) & listening | {int(port) for port in used[3:4] if port.isdigit()})


def _text(path: str, unseen: list[str] | None = None) -> str:
    """Return what a file says, nothing where it is not there or, noted in `unseen`, not ours to read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode(errors="replace")
    except PermissionError:
        if unseen is not None:
            unseen.append(f"what {path} says: it may not be read")
    except OSError:
        pass  # it is not there
    return ""
