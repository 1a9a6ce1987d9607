"""What nft lists of our table is read back as it was written, and nothing that anybody writes there stops us."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from capture_cases import CASES
from capture_strategies import SPECS
from capturing import spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from namespaces import Namespace, namespace

from meshdns.capture.apply.compare import Condition, compare, differences
from meshdns.capture.dialects.nft.backend import NftBackend
from meshdns.capture.dialects.nft.parse import NotOursError, parse, visible
from meshdns.capture.dialects.nft.render import render
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.spec import CaptureSpec

BACKEND = NftBackend()


@pytest.fixture(scope="module")
def pod() -> Iterator[Namespace]:
    """Give all tests here one namespace: each replaces what the one before it loaded."""
    with namespace() as made:
        yield made


def _load(pod: Namespace, wanted: CaptureSpec) -> None:
    held = pod.call(BACKEND.read)
    pod.call(lambda: BACKEND.replace(plan(wanted), ("YWJj", "ZGVm"), held, 1.0))


@pytest.mark.parametrize("case", CASES)
def test_named_configurations_come_back(pod: Namespace, case: str) -> None:
    """Reading gives the rules that were written, in order, with their ids, and the comments beside them."""
    _load(pod, CASES[case])
    held = pod.call(BACKEND.read)
    wanted = visible(plan(CASES[case]))
    assert differences(plan(CASES[case]), held, BACKEND) == ()
    assert compare(wanted, held) is Condition.SAME
    assert held.about == ("YWJj", "ZGVm")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(wanted=SPECS)
def test_any_configuration_comes_back(pod: Namespace, wanted: CaptureSpec) -> None:
    """The law: parse(kernel(render(rules))) gives the rules back, whatever the configuration."""
    _load(pod, wanted)
    assert compare(visible(plan(wanted)), pod.call(BACKEND.read)) is Condition.SAME


FOREIGN = {
    "a rule without a comment": "insert rule inet meshdns nat counter accept",
    "a rule of other words": 'insert rule inet meshdns nat tcp flags syn counter comment "nat-x"',
    "a rule with a limit": 'add rule inet meshdns zone limit rate 1/second counter return comment "x"',
    "a redirect with flags": 'add rule inet meshdns nat tcp dport 5 counter redirect to :6 random comment "x"',
    "a mark of the connection, copied": 'add rule inet meshdns zone counter ct mark set meta mark comment "x"',
    "a part of the connection's mark": 'add rule inet meshdns nat ct mark & 7 == 1 counter return comment "x"',
    "another set": "add set inet meshdns b { typeof meta nfproto; flags dynamic,timeout; }\n"
    'add rule inet meshdns beat_in counter update @b { meta nfproto timeout 3s } comment "x"',
    "a redirect to two ports": 'add rule inet meshdns nat tcp dport 5 counter redirect to :6-7 comment "x"',
    "a chain": "add chain inet meshdns other",
    "a chain with a hook": "add chain inet meshdns other { type filter hook output priority 7; policy accept; }",
    "a set": "add set inet meshdns other { type ipv4_addr; }",
    "a map": "add map inet meshdns other { type ipv4_addr : verdict; }",
    "a counter": "add counter inet meshdns other",
    "a rule in the chain of comments": "add rule inet meshdns about counter accept",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_somebody_else_wrote_is_foreign(pod: Namespace, name: str) -> None:
    """Whatever is added by hand is seen, told, and gone with the next replacement."""
    _load(pod, spec())
    pod.run("nft", "-f", "-", stdin=FOREIGN[name])
    held = pod.call(BACKEND.read)
    assert compare(visible(plan(spec())), held) is Condition.FOREIGN
    assert differences(plan(spec()), held, BACKEND)
    _load(pod, spec())
    assert compare(visible(plan(spec())), pod.call(BACKEND.read)) is Condition.SAME


@pytest.mark.parametrize(
    "change",
    [
        "flush table inet meshdns",
        "flush chain inet meshdns zone",
        "delete chain inet meshdns beat_in",
        'insert rule inet meshdns nat tcp dport 5 counter return comment "nat-x"',
        'add rule inet meshdns nat tcp dport 5 counter return comment "nat-x"',
    ],
)
def test_rules_of_ours_that_are_other_ones_are_stale(pod: Namespace, change: str) -> None:
    """A rule too few, too many or in another place is not the same, though each could be ours."""
    _load(pod, spec())
    pod.run("nft", "-f", "-", stdin=f"flush chain inet meshdns beat_in\n{change}" if "delete" in change else change)
    held = pod.call(BACKEND.read)
    assert compare(visible(plan(spec())), held) is Condition.STALE
    assert differences(plan(spec()), held, BACKEND)


def test_an_order_of_its_own_is_noticed(pod: Namespace) -> None:
    """The same rules in another order are not the same rules."""
    text = render(plan(spec())).text.splitlines()
    nat = [line for line in text if line.startswith("add rule inet meshdns nat ")]
    others = [line for line in text if line not in nat]
    pod.run("nft", "-f", "-", stdin="\n".join([*others, *reversed(nat)]))
    held = pod.call(BACKEND.read)
    assert compare(visible(plan(spec())), held) is Condition.STALE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["table", "chain", "rule", "set", "map", "metainfo", "?"]),
            st.fixed_dictionaries(
                {},
                optional=dict.fromkeys(("name", "chain", "expr", "comment", "hook", "prio", "type", "elem"), JSON),
            ),
            max_size=2,
        ),
        max_size=4,
    )
)
def test_any_listing_is_read(items: list[Any]) -> None:
    """A listing of another version or another hand is read, or told to be none; it never stops us otherwise."""
    with contextlib.suppress(NotOursError):
        parse(json.dumps({"nftables": items}))


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", "null", "[" * 100000, '{"nftables": 7}', '{"nftables": [1]}'])
def test_what_is_no_listing_is_told(text: str) -> None:
    """Text that is no listing at all is one error of ours."""
    with pytest.raises(NotOursError):
        parse(text)


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
