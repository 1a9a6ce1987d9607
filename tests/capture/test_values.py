"""Our dataclass against the standard library's: who reads `@dataclass(frozen=True, slots=True)` may think of either."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from meshdns.capture import values


class Made(NamedTuple):
    """The same classes, made by one decorator."""

    Pair: type[Any]
    Other: type[Any]
    Named: type[Any]
    Empty: type[Any]


def _made(dataclass: Callable[..., Any]) -> Made:
    @dataclass(frozen=True, slots=True)
    class Pair:
        first: int
        second: str = "two"

        def __post_init__(self) -> None:
            if self.first < 0:
                raise ValueError("below zero")

    @dataclass(frozen=True, slots=True)
    class Other:
        first: int
        second: str = "two"

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        one: int = 1
        last: int

    @dataclass(frozen=True, slots=True)
    class Empty:
        pass

    return Made(Pair, Other, Named, Empty)


STANDARD = _made(dataclasses.dataclass)
OURS = _made(values.dataclass)

DOINGS = {
    "shown": lambda made: repr([made.Pair(1), made.Pair(first=2, second="x"), made.Named(last=3), made.Empty()]),
    "equal": lambda made: [made.Pair(1) == made.Pair(1, "two"), made.Pair(1) == made.Pair(2)],
    "equal without a field": lambda made: made.Empty() == made.Empty(),
    "equal to another kind": lambda made: [made.Pair(1) == made.Other(1), made.Pair(1) == (1, "two")],
    "hashed": lambda made: [len({made.Pair(1), made.Pair(1), made.Pair(2)}), len({made.Empty(), made.Empty()})],
    "replaced": lambda made: repr(dataclasses.replace(made.Pair(1), second="x")),
    "replaced by nothing": lambda made: dataclasses.replace(made.Named(last=1)) == made.Named(last=1),
    "its fields": lambda made: [field.name for field in dataclasses.fields(made.Named)],
    "as a mapping": lambda made: dataclasses.asdict(made.Pair(1)),
    "matched": lambda made: (made.Pair.__match_args__, made.Named.__match_args__, made.Empty.__match_args__),
    "copied": lambda made: copy.copy(made.Pair(1)) == made.Pair(1),
    "refused by itself": lambda made: made.Pair(-1),
    "without a value": lambda made: made.Pair(),
    "with too many": lambda made: made.Pair(1, "2", 3),
    "given twice": lambda made: made.Pair(1, first=1),
    "given an unknown one": lambda made: made.Pair(1, third=3),
    "given an unknown one instead": lambda made: made.Named(lost=3),
    "named only, without its name": lambda made: made.Named(1),
    "changed": lambda made: setattr(made.Pair(1), "first", 2),
    "emptied": lambda made: delattr(made.Pair(1), "first"),
    "replaced by an unknown one": lambda made: dataclasses.replace(made.Pair(1), third=3),
}


def _outcome(doing: Callable[[Made], object], made: Made) -> object:
    try:
        return doing(made)
    except dataclasses.FrozenInstanceError:
        return AttributeError  # of which it is a kind
    except (TypeError, ValueError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize("name", DOINGS)
def test_it_does_what_the_standard_one_does(name: str) -> None:
    """A value made here is equal, hashed, shown, copied, replaced and refused as the standard library's would be."""
    assert _outcome(DOINGS[name], OURS) == _outcome(DOINGS[name], STANDARD)


def test_a_value_takes_no_other_attribute() -> None:
    """What is no field cannot be set, so that a misspelt name is not taken for one."""
    with pytest.raises(AttributeError):
        OURS.Pair(1).third = 3


def test_our_replace_is_the_standard_one() -> None:
    """`replace` gives what the standard library's gives, and refuses what that refuses."""
    pair = OURS.Pair
    assert values.replace(pair(1), second="x") == dataclasses.replace(pair(1), second="x")
    with pytest.raises(TypeError):
        values.replace(pair(1), third=3)


def test_values_that_change_are_not_made_here() -> None:
    """Asked for a class that is not frozen, it says where to get one."""
    with pytest.raises(TypeError, match="standard library"):
        values.dataclass(frozen=False, slots=True)
