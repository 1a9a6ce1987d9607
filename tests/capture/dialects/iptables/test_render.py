"""The text that iptables-restore is given, word for word, for every named configuration (see `make golden`)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from capture_cases import CASES, FOR_IPTABLES
from capturing import spec
from namespaces import namespace

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.compare import Condition, compare
from meshdns.capture.dialects.iptables.change import clearance, installation
from meshdns.capture.dialects.iptables.render import render, render_plan
from meshdns.capture.dialects.iptables.save import read_tables
from meshdns.capture.errors import SpecError
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.spec import Family

GOLDEN = Path(__file__).parents[2] / "golden" / "iptables"
REWRITE = os.environ.get("MESHDNS_GOLDEN") == "rewrite"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.mark.parametrize("case", CASES)
def test_text_is_the_golden_one(case: str) -> None:
    """The rules of a configuration change only on purpose."""
    file = GOLDEN / f"{case}.rules"
    text = render_plan(plan(CASES[case]))
    if REWRITE:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def test_no_golden_file_is_left_over() -> None:
    """Every golden file belongs to a configuration that still exists."""
    assert {file.stem for file in GOLDEN.iterdir()} == set(CASES)


LOADED = {"defaults", "ipv4-only", "ipv6-only", "owner-group", "inbound-list", "everything"}


@ROOT
@pytest.mark.parametrize("variant", ["legacy", "nft"])
@pytest.mark.parametrize("case", [row for row in FOR_IPTABLES if row.id in LOADED])
def test_both_programs_load_a_plan(case: str, variant: str) -> None:
    """What `plan` prints is loaded by iptables-restore and ip6tables-restore alike, and is what `install` makes."""
    backend = BACKENDS[f"iptables-{variant}"]()
    rules = plan(CASES[case])
    with namespace() as pod:
        for program in ("iptables", "ip6tables"):
            pod.run(f"{program}-{variant}-restore", "--noflush", stdin=render_plan(rules, ("YWJj",)))
        held = pod.call(backend.read)
    others = [text for text in held.strangers if "which nothing of ours leads to" not in text]
    assert not others  # chains without a rule, where a family is left out
    if set(rules.families) == set(Family):
        assert compare(backend.visible(rules), held) is Condition.SAME
        assert held.about == ("YWJj",)


def test_a_replacement_is_one_exchange_for_each_table() -> None:
    """The new chains are whole before the jump leads to them, and the old ones go in another step."""
    rules = plan(spec())
    first = render(installation(rules, (), Family.IPV4, {}, 1))
    held = read_tables(first.text.replace("-I OUTPUT 1", "-A OUTPUT").replace("-I INPUT 1", "-A INPUT"))
    second = [line.text for line in render(installation(rules, (), Family.IPV4, held, 2)).lines]
    nat = second[second.index("*nat") : second.index("COMMIT", second.index("*nat"))]
    assert nat[1] == ":MESHDNS_NAT_2 - [0:0]"
    assert nat[-2:] == [
        "-D OUTPUT -m comment --comment meshdns -j MESHDNS_NAT_1",
        "-I OUTPUT 1 -m comment --comment meshdns -j MESHDNS_NAT_2",
    ]
    assert not [line for line in second if line.startswith(("-F", "-X"))]
    cleared = [line.text for line in render(clearance(held, unlinked=True)).lines]
    assert [line for line in cleared if "MESHDNS_NAT" in line] == [
        "-F MESHDNS_NAT_1",
        "-X MESHDNS_NAT_1",
    ]


def test_a_fraction_of_a_second_is_refused() -> None:
    """xt_recent counts whole seconds; a timeout that it cannot keep is an error that says which one it can."""
    with pytest.raises(SpecError, match=r"--heartbeat-timeout 2.5 .* give 3"):
        render_plan(plan(spec(heartbeat_timeout_s=2.5)))
