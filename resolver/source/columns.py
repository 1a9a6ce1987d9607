"""Typed values to plain JSON values and back, column by column: a format that is safe to read from a stranger. Pure.

Which types there are is known beforehand, so that nothing in the data can name one; whatever does not have its shape is
a ValueError. Values of one field lie side by side: checking and converting a whole column at once is what makes a
million fields take less than a second. What the values mean must not be put here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import islice, starmap
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

Column = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Codec:
    """How a column of one type is written as JSON values, and read back. Both take and give whole columns."""

    write: Callable[[Column], Any]
    read: Callable[[Any], Column]


def written(kind: object, values: Iterable[object]) -> Any:  # noqa: ANN401 - what json.dumps takes
    """Return the values, all of type `kind`, as something that `json.dumps` takes."""
    return _codec(kind).write(list(values))


def read(kind: type[T] | UnionType, column: object) -> list[T]:
    """Return the values of a column that `written` wrote for `kind`; ValueError for anything else."""
    try:
        return list(_codec(cast("Any", kind)).read(column))
    except (TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        raise ValueError(f"cannot read a column of {kind}: {error}") from error


@cache
def _codec(kind: Any) -> Codec:  # noqa: ANN401 - a type, or what stands for one in an annotation
    found = get_origin(kind)
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if found is UnionType or (found is not None and found.__class__.__name__ == "_UnionGenericAlias"):
        return _union(get_args(kind))
    if found is tuple:
        return _tuple(get_args(kind))
    if found is Mapping:
        return _mapping(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind)
    return _record(kind)


def _list(column: object) -> list[Any]:
    if type(column) is not list:
        raise ValueError(f"a {type(column).__name__} where a list belongs")
    return column


def _checked(kind: type, column: object) -> list[Any]:
    """Return a column of JSON's own types: True is no number here, and 1 no float."""
    found = _list(column)
    if not {kind}.issuperset(map(type, found)):
        raise ValueError(f"not everything is of type {kind.__name__}")
    return found


def _plain(kind: type) -> Codec:
    return Codec(list, partial(_checked, kind))


_FEW: Final = 4
"""A column whose values are each repeated more often than this is written as the different ones and their numbers."""


def _shared(codec: Codec) -> Codec:
    """Return a codec that writes equal values once and reads them as one: ports and paths are alike by the hundreds."""

    def write(column: Column) -> Any:  # noqa: ANN401
        try:
            numbers = {value: number for number, value in enumerate(dict.fromkeys(column))}
        except TypeError:  # a mapping is among them
            return codec.write(column)
        if len(numbers) * _FEW > len(column):
            return codec.write(column)
        return {"different": codec.write(list(numbers)), "which": [numbers[value] for value in column]}

    def read_column(column: Any) -> Column:  # noqa: ANN401
        if type(column) is not dict:
            return codec.read(column)
        different = codec.read(column["different"])
        which = _checked(int, column["which"])
        if which and not 0 <= min(which) <= max(which) < len(different):
            raise ValueError("a number that stands for no value")
        return list(map(different.__getitem__, which))

    return Codec(write, read_column)


_TEXT: Final = _shared(_plain(str))
_BYTES: Final = _shared(
    Codec(
        lambda column: [value.hex() for value in column], lambda column: list(map(bytes.fromhex, _checked(str, column)))
    )
)


def _read_networks(kind: type, column: object) -> Column:
    pairs = _list(column)
    return [kind(tuple(_checked(int, pair))) for pair in pairs]


def _addresses(kind: type) -> Codec:
    return Codec(lambda column: list(map(int, column)), lambda column: list(map(kind, _checked(int, column))))


def _networks(kind: type) -> Codec:
    return Codec(
        lambda column: [[int(block.network_address), block.prefixlen] for block in column],
        partial(_read_networks, kind),
    )


_SIMPLE: Final[Mapping[Any, Codec]] = {
    str: _TEXT,
    bytes: _BYTES,
    int: _plain(int),
    float: _plain(float),
    bool: _plain(bool),
    NoneType: _plain(NoneType),
    IPv4Address: _addresses(IPv4Address),
    IPv6Address: _addresses(IPv6Address),
    IPv4Network: _networks(IPv4Network),
    IPv6Network: _networks(IPv6Network),
}


def _record(kind: Any) -> Codec:  # noqa: ANN401
    """Return the codec of a named tuple or a dataclass: a column for each field."""
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind._fields)
    codecs = [(name, _codec(hints[name])) for name in names]
    make: Callable[[Any], Any] = partial(starmap, kind) if is_dataclass(kind) else partial(map, kind._make)  # type: ignore[arg-type]

    def write(column: Column) -> Any:  # noqa: ANN401
        return [codec.write([getattr(value, name) for value in column]) for name, codec in codecs]

    def read_column(column: object) -> Column:
        parts = [codec.read(part) for (_, codec), part in zip(codecs, _list(column), strict=True)]
        return list(make(zip(*parts, strict=True)))

    return Codec(write, read_column)


def _enum(kind: type[Enum]) -> Codec:
    of: Any = type(next(iter(kind)).value)
    values = _codec(of)
    return Codec(
        lambda column: values.write([member.value for member in column]),
        lambda column: list(map(kind, values.read(column))),
    )


def _union(kinds: Sequence[Any]) -> Codec:
    """Return the codec of one of several types: which of them each value is, and a column for each."""
    codecs = [_codec(kind) for kind in kinds]
    classes = [get_origin(kind) or kind for kind in kinds]

    def write(column: Column) -> Any:  # noqa: ANN401
        which = [next(number for number, found in enumerate(classes) if isinstance(value, found)) for value in column]
        parts = [
            codec.write([value for value, chosen in zip(column, which, strict=True) if chosen == number])
            for number, codec in enumerate(codecs)
        ]
        return [which, parts]

    def read_column(column: Any) -> Column:  # noqa: ANN401
        which, parts = _list(column)
        numbers = _checked(int, which)
        found = [codec.read(part) for codec, part in zip(codecs, _list(parts), strict=True)]
        if [numbers.count(number) for number in range(len(found))] != list(map(len, found)):
            raise ValueError("the kinds of values are not as many as the values")
        rests = list(map(iter, found))
        return [next(rests[number]) for number in numbers]

    return Codec(write, read_column)


def _tuple(kinds: Sequence[Any]) -> Codec:
    if len(kinds) == 2 and kinds[1] is Ellipsis:  # noqa: PLR2004 - a tuple of any length, as annotations have it
        return _sequence(kinds[0])
    codecs = [_codec(kind) for kind in kinds]

    def write(column: Column) -> Any:  # noqa: ANN401
        return [codec.write([value[place] for value in column]) for place, codec in enumerate(codecs)]

    def read_column(column: object) -> Column:
        parts = [codec.read(part) for codec, part in zip(codecs, _list(column), strict=True)]
        return list(zip(*parts, strict=True))

    return Codec(write, read_column)


def _sequence(kind: Any) -> Codec:  # noqa: ANN401
    """Return the codec of tuples of any length: their lengths, and all items in one column."""
    items = _codec(kind)

    def write(column: Column) -> Any:  # noqa: ANN401
        return [[len(value) for value in column], items.write([item for value in column for item in value])]

    def read_column(column: Any) -> Column:  # noqa: ANN401
        lengths, flat = _list(column)
        found = items.read(flat)
        return _cut(_checked(int, lengths), found)

    return _shared(Codec(write, read_column))


def _cut(lengths: list[int], flat: Column) -> list[tuple[Any, ...]]:
    """Cut a flat column into tuples of these lengths, which must use it up."""
    if sum(lengths) != len(flat) or (lengths and min(lengths) < 0):
        raise ValueError("the lengths do not add up")
    if not flat:
        return [()] * len(lengths)
    if len(flat) == len(lengths) and min(lengths) == max(lengths) == 1:
        return list(zip(flat, strict=True))
    rest = iter(flat)
    return [tuple(islice(rest, length)) for length in lengths]


def _mapping(kinds: Sequence[Any]) -> Codec:
    pairs = _sequence(tuple[kinds[0], kinds[1]])  # type: ignore[valid-type]
    return Codec(
        lambda column: pairs.write([tuple(value.items()) for value in column]),
        lambda column: list(map(dict, pairs.read(column))),
    )
