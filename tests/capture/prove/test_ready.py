"""`install --wait-ready` installs once the resolver answers, and otherwise says what did not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from capturing import LISTED
from namespaces import Namespace
from proving import capture, pod, resolver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

OPTIONS = ("--wait-ready", "0.5", *(f"--dns-servers={address}" for address in LISTED))


@pytest.fixture
def there() -> Iterator[Namespace]:
    with pod() as made:
        yield made


def test_installs_when_the_resolver_answers(there: Namespace) -> None:
    """A resolver that answers over UDP and TCP in every family is ready."""
    with resolver(there):
        assert "installed" in capture(there, "install", *OPTIONS).stdout


def test_names_what_does_not_answer(there: Namespace) -> None:
    """What did not answer is named, by address, port and transport; the exit code is 3 and nothing is installed."""
    with resolver(there, "--listen", "127.0.0.1:15053"):
        done = capture(there, "install", *OPTIONS, check=False)
    assert done.returncode == 3
    assert "::1 port 15053 over udp, ::1 port 15053 over tcp" in done.stderr
    assert "127.0.0.1" not in done.stderr
    assert there.ruleset() == ""


def test_only_captured_families_must_answer(there: Namespace) -> None:
    """A family that is left out need not be served."""
    with resolver(there, "--listen", "127.0.0.1:15053"):
        assert "installed" in capture(there, "install", *OPTIONS, "--family", "ipv4").stdout


def test_somebody_else_at_the_port_is_not_the_resolver(there: Namespace) -> None:
    """A server that answers, but not with what only our resolver knows, is not ready."""
    with there.running("dnsmasq", "-k", "-p", "15053", "--no-resolv", "--conf-file=/dev/null", "-u", "root"):
        done = capture(there, "install", *OPTIONS, check=False)
    assert done.returncode == 3


def test_ends_when_the_heartbeat_has_opened_the_rules(there: Namespace) -> None:
    """What starts after `install` has ended is captured from its first lookup on, in every family."""
    with resolver(there):
        done = capture(there, "install", *OPTIONS)
        status = json.loads(capture(there, "status", "--json").stdout)
    assert "no heartbeat" not in done.stderr
    assert {family: state["alive"] for family, state in status["heartbeat"].items()} == {"ipv4": True, "ipv6": True}


def test_a_resolver_that_does_not_beat_is_told(there: Namespace) -> None:
    """It answers, but nothing is captured before it beats: a warning says so, and the exit code stays 0."""
    with resolver(there, "--no-heartbeat"):
        done = capture(there, "install", *OPTIONS, "--heartbeat-timeout", "1")
    assert "installed" in done.stdout
    for family in ("ipv4", "ipv6"):
        assert (
            f"no heartbeat yet for {family}: nothing is captured until the resolver, running as uid 1337" in done.stderr
        )
