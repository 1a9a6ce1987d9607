"""What `doctor` prints as a fix is a cure: the command line is run as printed, and what was wrong is right."""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from capturing import APP
from diagnosing import RESOLVED, listening, told
from diagnosing import SERVERS as LISTED_SERVERS
from namespaces import Namespace
from proving import capture, delete_rules, pod, resolver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network and mount namespaces")

SERVERS = ("--dns-servers=127.0.0.53", "--dns-servers=::1")
"""Of this machine, so that only the pools need a route."""
PROBED = {socket.AF_INET: "240.240.255.255", socket.AF_INET6: "2001:2::ffff"}
WITHIN_S = 20
ROUNDS = 4
"""How often one asks, mends what is told first, and asks again."""
NO_DEFAULT = "ip route delete default; ip -6 route delete default;"
ASTRAY = {
    "no route": NO_DEFAULT,
    "no interface but lo": "ip link delete eth0",
    "by lo": "ip route add 240.240.0.0/16 dev lo; ip route add 2001:2::/48 dev lo",
    "by lo, and no default": f"{NO_DEFAULT} ip route add 240.0.0.0/4 dev lo; ip route add 2001::/16 dev lo",
    "to this machine": "ip route add local 240.240.0.0/16 dev lo; ip -6 route add local 2001:2::/48 dev lo",
    "unreachable": "ip route add unreachable 240.240.0.0/16; ip route add unreachable 2001:2::/48 metric 1024",
}


@pytest.mark.parametrize("case", ASTRAY)
def test_a_pool_gets_its_route(case: str) -> None:
    """After the commands that are printed nothing is found of the pools, and the relay answers in both families."""
    with pod() as there, resolver(there):
        there.run("sh", "-euc", ASTRAY[case])
        capture(there, "install", *SERVERS, f"--wait-ready={WITHIN_S}")
        assert not any(_answers(there, family, within_s=0) for family in PROBED)
        for _ in range(ROUNDS):
            fixes = _fixes(there, SERVERS, "no-route", "pool-routed")
            if not fixes:
                break
            there.run("sh", "-euc", _with_what_there_is(there, fixes[0]))
        assert not fixes
        assert all(_answers(there, family, within_s=WITHIN_S) for family in PROBED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """How to make it so, and the id under which it is found."""

    id: str
    network: str = "true"
    files: str = ""
    installed: tuple[str, ...] = ()
    """Options of what is installed before, if anything."""
    deleted: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    listener: tuple[str, str, int, int] | None = None


TROUBLES = {
    "no loopback": Trouble(id="lo-down", network="ip link set lo down", options=LISTED_SERVERS),
    "SSH among the captured ports": Trouble(
        id="ssh-lockout", options=(*LISTED_SERVERS, "--inbound-ports=*"), listener=("tcp", "0.0.0.0", 22, 0)
    ),
    "a loop by a stub": Trouble(
        id="dns-loop",
        files="mkdir -p /run/systemd/resolve; echo nameserver 10.96.0.10 >/run/systemd/resolve/resolv.conf",
        options=(*LISTED_SERVERS, "--dns-servers=127.0.0.53"),
        listener=("udp", "127.0.0.53", 53, RESOLVED),
    ),
    "a rule that is gone": Trouble(id="rules-changed", installed=("--backend=nft",), deleted=("nat-dns-4",)),
    "NAT of others before ours": Trouble(
        id="legacy-and-nft",
        network="iptables-nft -t nat -N DOCKER_OUTPUT; iptables-nft -t nat -A OUTPUT -d 127.0.0.11 -j DOCKER_OUTPUT",
        installed=("--backend=iptables-legacy",),
    ),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_what_is_printed_mends(case: str) -> None:
    """What was found is not found again once its commands were run, and its options given."""
    one = TROUBLES[case]
    with pod() as there, ExitStack() as stack:
        there.run("sh", "-euc", one.network)
        if one.installed:
            capture(there, "install", *LISTED_SERVERS, *one.installed)
            if one.deleted:
                delete_rules(there, *one.deleted)
        if one.listener:
            stack.enter_context(listening(there, *one.listener))
        fixes = _fixes(there, one.options, one.id, files=one.files)
        options = list(one.options)
        for fix in fixes:
            program, *words = fix.split()
            if program == "ip":
                there.run(program, *words)
            elif words[:2] == ["capture", "install"]:
                capture(there, *words[1:], *LISTED_SERVERS)
            elif program.startswith("--") and words:
                options += [program, *words]
        found, _ = told(there, one.files, tuple(options))
    assert fixes
    assert one.id not in {each["id"] for each in found["findings"]}


def _answers(there: Namespace, family: socket.AddressFamily, *, within_s: float) -> bool:
    """Return whether an ordinary user's connection to a pool gets to the relay, once the heartbeat has come."""
    deadline = time.monotonic() + within_s
    while True:
        with there.socket(family, socket.SOCK_STREAM, uid=APP, timeout_s=1) as client:
            try:
                client.connect((PROBED[family], 1))
                if client.recv(64).startswith(b"meshdns "):
                    return True
            except OSError:
                pass  # it is not captured, or not yet
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)


def _with_what_there_is(there: Namespace, command: str) -> str:
    """Return the command for a kernel that was built without dummy interfaces: those of ifb are dummies, too."""
    has_dummy = there.run("ip", "link", "add", "tried", "type", "dummy", check=False).returncode == 0
    if has_dummy:
        there.run("ip", "link", "delete", "tried")
    return command if has_dummy else command.replace("type dummy", "type ifb")


def _fixes(there: Namespace, options: tuple[str, ...], *ids: str, files: str = "") -> list[str]:
    """Return what stands between backticks in the fixes of these findings, one after the other."""
    found, _ = told(there, files, options)
    return [text for each in found["findings"] if each["id"] in ids for text in re.findall("`([^`]+)`", each["fix"])]
