"""Installing through python-iptables: the same rules as iptables-legacy, and nothing that was not read back before.

Collected only where the library is (`make test-libiptc`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_cases import CASES
from capturing import spec
from namespaces import Namespace, namespace

from meshdns.capture.apply.backend import BACKENDS, Backend
from meshdns.capture.apply.choice import held_elsewhere
from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import inspect, install, new_record, uninstall
from meshdns.capture.dialects.observed import NOTHING
from meshdns.capture.errors import ApplyError, PreflightError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Chain, Hook, Match, Protocol, Refuse, Rule, RuleSet, Stage
from meshdns.capture.policy.spec import CaptureSpec, Family

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces"),
    pytest.mark.timeout(120),
]

OTHERS = (
    "*nat\n-A OUTPUT -p tcp -m tcp --dport 8443 -m comment --comment nat-dns-4 -j REDIRECT --to-ports 443\nCOMMIT\n"
)
BROKEN = """
import sys
sys.path.remove(__file__.rpartition("/")[0])
del sys.modules["iptc"]
import iptc
original = iptc.Match.set_parameter
def set_parameter(self, name, value=None):
    original(self, name, "54" if (name, value) == ("dport", "53") else value)
iptc.Match.set_parameter = set_parameter
"""
"""A library that writes another port than it is told, as one does that takes options for others."""


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def libiptc() -> Backend:
    return BACKENDS["libiptc"]()


@pytest.fixture
def legacy() -> Backend:
    return BACKENDS["iptables-legacy"]()


def _install(pod: Namespace, backend: Backend, wanted: CaptureSpec) -> bool:
    return pod.call(lambda: install(backend, new_record(wanted, backend, "1", 1)).changed)


def test_both_ways_to_the_legacy_tables_see_the_same(pod: Namespace, libiptc: Backend, legacy: Backend) -> None:
    """What one installs the other reads, finds in place and removes."""
    wanted = CASES["everything"]
    pod.run("iptables-legacy-restore", stdin=OTHERS)
    assert _install(pod, libiptc, wanted)
    assert pod.call(lambda: inspect(legacy)).condition is Condition.SAME
    assert not _install(pod, legacy, wanted)
    assert pod.call(lambda: held_elsewhere(libiptc)) == {}
    assert not _install(pod, libiptc, wanted)
    assert pod.call(lambda: uninstall(libiptc))
    saved = pod.run("iptables-legacy-save").stdout
    assert "MESHDNS" not in saved
    assert OTHERS.splitlines()[1] in saved.splitlines()
    assert pod.run("ip6tables-legacy-save").stdout.count("-A") == 0


def test_a_replacement_leaves_nothing_behind(pod: Namespace, libiptc: Backend) -> None:
    """Installed over another, a configuration is what it would have been alone."""
    _install(pod, libiptc, CASES["everything"])
    _install(pod, libiptc, CASES["ipv4-only"])
    assert pod.call(lambda: inspect(libiptc)).condition is Condition.SAME
    assert "MESHDNS" not in pod.run("ip6tables-legacy-save").stdout


def test_a_refusal_names_the_rule_and_changes_nothing(pod: Namespace, libiptc: Backend) -> None:
    """What the kernel refuses is told by the rule's id, before the namespace is touched."""
    match = Match(protocols=(Protocol.UDP,))
    chains = [chain for chain in plan(spec()).chains if chain.stage is Stage.COUNT]
    wrong = Chain("nat", Hook.OUTPUT, Stage.TRANSLATE, (Rule("nat-wrong", "", match, Refuse()),))
    with pytest.raises(ApplyError, match="cannot load rule nat-wrong: the kernel says: b'Invalid argument'"):
        pod.call(lambda: libiptc.replace(RuleSet((Family.IPV4,), (*chains, wrong)), (), NOTHING, 0))
    assert pod.run("cat", "/proc/net/ip_tables_names").stdout == ""


def test_a_library_that_misreads_may_touch_nothing(
    pod: Namespace, libiptc: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that come back otherwise from the scratch namespace: exit 3, naming one of them and the other backends."""
    (tmp_path / "iptc.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    told = r"reads beat-unmark-dns-4 back otherwise .* use --backend nft, iptables-nft"
    with pytest.raises(PreflightError, match=told):
        _install(pod, libiptc, spec())
    assert pod.run("cat", "/proc/net/ip_tables_names").stdout == ""


def test_the_lock_of_iptables_is_respected(pod: Namespace, libiptc: Backend) -> None:
    """While another program holds the lock, nothing is changed, and the wait ends."""
    descriptor = os.open(os.environ["XTABLES_LOCKFILE"], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ApplyError, match="another program held"):
            _install(pod, libiptc, spec())
    finally:
        os.close(descriptor)
    assert pod.run("cat", "/proc/net/ip_tables_names").stdout == ""
