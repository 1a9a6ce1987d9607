"""`@dataclass(frozen=True, slots=True)`: what the standard library's means, at a twentieth of what it costs to import.

The standard library writes and compiles six methods for each class, which takes 0.8 ms; for the classes that one
`capture install` imports that is 30 ms, more than Python and nft need together (docs/adr/0014). The methods here are
written once and look the fields up. Type checkers are shown the standard library's own decorator, and its `replace` and
`fields` take these values too. Only modules that every installation imports use this one.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass, replace

    __all__ = ["dataclass", "replace"]
else:

    def dataclass(*, frozen: bool, slots: bool, kw_only: bool = False) -> Any:  # noqa: ANN401 - see TYPE_CHECKING
        """Return a decorator that makes a class one of values: equal, hashed and shown by their fields."""
        if not (frozen and slots):
            raise TypeError("cannot make values that change: use the standard library's dataclass")
        return lambda cls: _with_slots(cls, kw_only=kw_only)

    def replace(value: Any, /, **changes: Any) -> Any:  # noqa: ANN401 - see TYPE_CHECKING
        """Return a value that differs from `value` in these fields."""
        return type(value)(**{**{name: getattr(value, name) for name in value.__slots__}, **changes})


def _with_slots(cls: type, *, kw_only: bool) -> type:
    """Make the class anew, because slots and defaults of one name cannot both stand in its body."""
    body = dict(cls.__dict__)
    names = tuple(cls.__annotations__)
    body |= {
        "__qualname__": cls.__qualname__,
        "__annotations__": cls.__annotations__,
        "_defaults": {name: body.pop(name) for name in names if name in body},
        "__slots__": names,
        "__match_args__": () if kw_only else names,
        "__dataclass_fields__": _StandardFields(),
        "_names": frozenset(names),
        "_state": attrgetter(*names) if names else type,
    }
    del body["__dict__"], body["__weakref__"]
    return type(cls)(cls.__name__, (_Value, *(base for base in cls.__bases__ if base is not object)), body)


_set = object.__setattr__


class _Value:
    __slots__: tuple[str, ...] = ()
    __match_args__: tuple[str, ...]
    __dataclass_fields__: Any
    _defaults: dict[str, Any]
    _names: frozenset[str]
    _state: attrgetter[Any]
    """The fields of a value, to compare and hash it by. An `attrgetter` is no function, so it does not bind itself."""

    def __init__(self, *given: Any, **named: Any) -> None:  # noqa: ANN401 - the fields' types are the type checker's
        values = dict(zip(self.__match_args__, given, strict=False)) | named if given else named
        fits = len(values) == len(given) + len(named)  # neither too many given, nor one given twice
        if len(values) < len(self._names):
            values = self._defaults | values
        if not fits or values.keys() != self._names:
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.__slots__)}: got {given} and {named}")
        for name, value in values.items():
            _set(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check what the fields' types do not say."""

    def __setattr__(self, name: str, _: Any) -> None:  # noqa: ANN401 - any value is refused
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}")

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        for name, value in state[1].items():  # a copy's
            _set(self, name, value)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__qualname__}({shown})"

    def __eq__(self, other: object) -> bool:
        return self._state(self) == self._state(other) if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._state(self))


class _StandardFields:
    """What the standard library asks a dataclass for, made by itself when it asks."""

    def __get__(self, _: object, cls: type[_Value]) -> dict[str, Any]:
        from dataclasses import dataclass as standard  # noqa: PLC0415 - hardly anybody asks

        plain = {"__annotations__": cls.__annotations__, **cls._defaults}
        made: Any = standard(kw_only=not cls.__match_args__)(type(cls.__name__, (), plain))
        fields: dict[str, Any] = made.__dataclass_fields__
        cls.__dataclass_fields__ = fields  # from now on without asking
        return fields
