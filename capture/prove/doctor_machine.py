"""Checks of `doctor`: this process, the kernel, its programs, and the rules that others have put there. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from meshdns.capture.policy.spec import CaptureSpec, OnResolverDown
from meshdns.capture.prove.diagnosis import Diagnosis, error, warning
from meshdns.capture.prove.facts import Facts

OLDEST_KERNEL: Final = (5, 10)
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
    "CILIUM_": "Cilium",
}
"""How the chains or tables of those begin who capture traffic as well."""
MODULES: Final = {"redirect": "nft_redir", "tproxy": "nft_tproxy", "fib": "nft_fib_inet", "reject": "nft_reject_inet"}
OURS: Final = ("table inet meshdns", "MESHDNS_")
BUILT_IN: Final = frozenset({"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"})
"""The chains of a table `nat` that may be there without a rule."""
CLOSED: Final = "rest-dns-"
"""How the ids of those rules begin that refuse lookups while there is no heartbeat."""


def capability(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether this process may install rules."""
    if "NET_ADMIN" in facts.capabilities:
        return
    if facts.uid == 0:
        yield error(
            "root lacks CAP_NET_ADMIN here",
            "add NET_ADMIN to the capabilities of the (init) container; from a user namespace that does not own this "
            "network namespace, leave it",
        )
    else:
        yield warning("this user may not install rules", "run `meshdns capture install` as root")


def kernel(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether the kernel has what rules need."""
    if facts.kernel[:2] < OLDEST_KERNEL:
        have, need = (".".join(map(str, version)) for version in (facts.kernel, OLDEST_KERNEL))
        yield error(f"the kernel is {have}", f"run {need} or later")


def program(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether there is a program to load rules with, and the one that shows and removes those that are there."""
    if missing := facts.known.standing.missing:
        yield error(
            f"the kernel holds rules of meshdns, and {missing}, which shows and removes them, is not on PATH",
            f"install the package {facts.known.standing.package}",
        )
    elif not any(version is not None for version in facts.programs.values()):
        yield error("neither nft nor iptables is installed", "install the package nftables")
    for program, version in facts.programs.items():
        if version and version < facts.oldest[program]:
            have, need = (".".join(map(str, number)) for number in (version, facts.oldest[program]))
            yield warning(f"{program} is {have}, which is too old", f"install {need} or later")


def module(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether nft and the kernel take our rules."""
    if not facts.refused:
        return
    needed = sorted({module for word, module in MODULES.items() if word in facts.refused}) or ["nf_tables"]
    yield error(
        f"nft or this kernel refuses the rules: {facts.refused}",
        f"try `modprobe {' '.join(needed)}` on the machine itself, not in a container",
    )


def mixed(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether rules stand in both worlds."""
    rivals = nat_before_ours(facts)
    if rivals:
        yield error(
            f"the rules of meshdns are iptables-legacy's, and NAT of others is in nf_tables ({rivals[0]}): what was "
            "loaded first gets the packet, and lookups of ours may be lost",
            "`meshdns capture install --backend nft`, with the options it had: its NAT comes first in either order",
        )
    elif facts.legacy_rules and facts.nft_rules:
        yield warning(
            f"both iptables-legacy ({facts.legacy_rules}) and nf_tables ({facts.nft_rules}) hold rules: packets meet "
            "them all, and `iptables -L` shows one kind",
            "have whoever loads the former (`iptables-legacy-save` lists them) use iptables-nft instead",
        )


def nat_before_ours(facts: Facts) -> list[str]:
    """Return the chains of others in nf_tables that may take what ours in the legacy tables should, as for NAT."""
    # A chain of nf_tables is known with its family and table, one of a legacy table by its name alone.
    chains = facts.chains or ()
    if not any(chain.startswith("MESHDNS_") for chain in chains):
        return []
    of_nat = (chain for chain in chains if chain.split()[1:2] == ["nat"])
    return sorted(chain for chain in of_nat if chain.split()[2] not in BUILT_IN)


def other_mesh(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether somebody else captures, too."""
    found = {
        mesh
        for chain in facts.chains or ()
        for begin, mesh in MESHES.items()
        if any(word.startswith(begin) for word in chain.split())
    }
    for mesh in sorted(found):
        yield warning(
            f"{mesh} has rules here as well, and may take the same packets",
            f"let one of them capture: remove {mesh}'s rules, or ours by `meshdns capture uninstall`",
        )


def drift(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether somebody has changed the rules that were installed."""
    differences = facts.known.standing.drift
    if differences:
        more = f"; and {len(differences) - 1} more" if len(differences) > 1 else ""
        yield warning(
            f"the rules of meshdns are not those that were installed: {differences[0]}{more}",
            "`meshdns capture diff` shows how; `meshdns capture install`, with the options it had, puts them back",
        )


def saved(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether rules of ours come back when the machine starts, without a resolver."""
    for path, text in facts.saved.items():
        if not any(word in text for word in OURS):
            continue
        fix = f"remove them from {path}: what `meshdns vm onboard` sets up installs them at boot"
        if CLOSED in text:
            yield error(
                f"{path} holds rules of meshdns with --on-resolver-down {OnResolverDown.CLOSED.value}: after a restart "
                "there is no DNS until the resolver runs",
                fix,
            )
        else:
            yield warning(f"{path} holds rules of meshdns: after a restart these old ones come back", fix)


def cilium(facts: Facts, _spec: CaptureSpec) -> Iterator[Diagnosis]:
    """Whether destinations may be translated before a packet exists."""
    if any(name.startswith("cilium_") for name in facts.interfaces):
        yield warning(
            "Cilium is here: its socket load balancing may translate a service's address before any rule sees it",
            "set `socketLB.hostNamespaceOnly=true` in Cilium",
        )
