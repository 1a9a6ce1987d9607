"""In which order endpoints are tried."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from meshdns.relay.order import RESTING_MAX, Rest, by_turns, weighted
from meshdns.relay.route import Destination

HEAVY = Destination(ip_address("198.51.100.1"), 80, weight=3)
LIGHT = Destination(ip_address("198.51.100.2"), 80, weight=1)
UNSET = Destination(ip_address("198.51.100.3"), 80, weight=0)


def test_weights_are_shares() -> None:
    """Of weights 1 and 3 the second comes first in three of four draws, within 5 % of its share."""
    chance = random.Random(1)
    first = Counter(weighted((LIGHT, HEAVY), chance.random)[0] for _ in range(20_000))
    assert abs(first[HEAVY] / 20_000 - 0.75) < 0.75 * 0.05
    assert abs(first[LIGHT] / 20_000 - 0.25) < 0.25 * 0.05


def test_a_weight_of_zero_counts_as_one() -> None:
    """An endpoint whose weight nobody set is not left out."""
    chance = random.Random(2)
    first = Counter(weighted((LIGHT, UNSET), chance.random)[0] for _ in range(4_000))
    assert abs(first[UNSET] / 4_000 - 0.5) < 0.05


@given(
    st.lists(st.builds(Destination, st.ip_addresses(v=4), st.just(80), st.integers(0, 2**32)), max_size=8), st.randoms()
)
def test_every_destination_is_in_the_order_once(destinations: list[Destination], chance: random.Random) -> None:
    """A draw leaves nothing out and adds nothing, whatever the weights."""
    assert Counter(weighted(destinations, chance.random)) == Counter(destinations)


@given(st.lists(st.integers()), st.lists(st.integers()))
def test_families_take_turns(first: list[int], second: list[int]) -> None:
    """No more than one of a family follows another while both have some left, and each keeps its order."""
    left = [(6, one) for one in first]
    right = [(4, one) for one in second]
    merged = by_turns(left, right)
    assert [one for one in merged if one[0] == 6] == left
    assert [one for one in merged if one[0] == 4] == right
    both = 2 * min(len(left), len(right))
    assert [family for family, _ in merged[:both]] == [6, 4] * (both // 2)


def test_what_failed_rests_and_is_tried_all_the_same_when_nothing_else_is_there() -> None:
    """An endpoint that failed goes to the end for `rest_s`, or until it works; it never disappears."""
    rest = Rest(10.0)

    def order(now: float) -> list[str]:
        return rest.rested_first(["a", "b", "c"], lambda one: rest.left(one, now) > 0)

    assert order(0.0) == ["a", "b", "c"]
    rest.failed("a", 100.0)
    assert order(101.0) == ["b", "c", "a"]
    rest.failed("b", 105.0)
    rest.failed("c", 105.0)
    assert order(109.9) == ["a", "b", "c"]
    assert order(110.0) == ["a", "b", "c"]
    assert order(112.0) == ["a", "b", "c"]
    rest.worked("c")
    assert order(113.0) == ["a", "c", "b"]
    assert order(116.0) == ["a", "b", "c"]


def test_what_rests_is_bounded() -> None:
    """However many endpoints fail, a bounded number is remembered, the latest ones."""
    rest = Rest(10.0)
    for number in range(RESTING_MAX + 10):
        rest.failed(number, 0.0)
    assert rest.left(9, 1.0) == 0.0
    assert rest.left(10, 1.0) == 9.0
    assert rest.left(RESTING_MAX + 9, 1.0) == 9.0
