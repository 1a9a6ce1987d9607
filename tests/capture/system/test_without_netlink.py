"""Where the kernel gives no netlink, commands say so in a line, and nobody sees a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from capturing import LISTED
from namespaces import Namespace
from proving import MESHDNS, capture, pod
from without_netlink import without

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

SERVERS = tuple(f"--dns-servers={address}" for address in LISTED)
COMMANDS = {
    "status": ("--check",),
    "diff": (),
    "verify": ("--rules-only",),
    "install": SERVERS,
    "uninstall": (),
    "watch": (),
    "trace": (),
}


def _refused(there: Namespace, *arguments: str) -> tuple[int, str, str]:
    done = there.run(*without(MESHDNS), "capture", *arguments, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("backend", ["nft", "iptables-legacy"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_why_it_cannot_go_on(command: str, backend: str) -> None:
    """Exit 3 and one line that names what the kernel said."""
    with pod() as there:
        capture(there, "install", *SERVERS, f"--backend={backend}")
        code, _, errors = _refused(there, command, *COMMANDS[command], f"--backend={backend}")
        assert (code, len(errors.splitlines())) == (3, 1), errors
        assert "not supported" in errors


def test_doctor_lists_what_it_could_not_look_at() -> None:
    """Without netlink nothing is known of routes, and that is no finding."""
    with pod() as there:
        code, output, errors = _refused(there, "doctor", "--json", *SERVERS)
    report = json.loads(output)
    assert (code in {0, 1}, errors) == (True, "")
    assert not [one for one in report["findings"] if one["id"] == "no-route"]
    assert [what for what in report["unseen"] if what.startswith("whether there are routes to nameservers and pools: ")]


@pytest.mark.parametrize(
    "call",
    [
        "events.RuleEvents()",
        "events.RoutingEvents()",
        "netlink.routes([])",
        "netlink.steering()",
        "steered.is_steered()",
    ],
)
def test_each_door_says_so_in_its_own_words(call: str) -> None:
    """What asks the kernel by netlink raises a PreflightError where there is none, and no OSError."""
    module = call.partition(".")[0]
    program = (
        "from meshdns.capture.errors import PreflightError\n"
        f"from meshdns.capture.system import {module}\n"
        "try:\n"
        f"    {call}\n"
        "except PreflightError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([*without(sys.executable), "-c", program], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.startswith("cannot "), "not supported" in done.stdout) == ("", True, True)
