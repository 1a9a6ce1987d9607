"""What a value on the command line may look like: one click type for each kind.

Every value is checked when it is read and becomes a number, an address or a small value type. Nothing is clamped; an
error names the value, the reason and the nearest valid form.
"""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Generic, TypeVar

import click

from meshdns.capture.policy.spec import MAX_ID, MAX_INTERFACE_BYTES, MAX_PORT, MIN_HEARTBEAT_TIMEOUT_S, Ports

T = TypeVar("T")


def _is_number(text: str, least: int, most: int) -> bool:
    """Tell whether these are ASCII digits, no more than `most` has, of a number within the bounds."""
    return text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most


class SwitchType(click.types.BoolParamType):
    """True or false, as click reads them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        switch = self.str_to_bool(value)
        if switch is None:
            self.fail(f"{value!r} is not a boolean: write true or false", param, ctx)
        return switch


class PortType(click.ParamType[int]):
    """One port, 1-65535."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        if not _is_number(text, 1, MAX_PORT):
            self.fail(f"{text!r} is not a port: give a number from 1 to {MAX_PORT}", param, ctx)
        return int(text)


class NumberType(click.ParamType[int]):
    """A whole number from `least` to `most`, both included."""

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.name = f"{least}-{most}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        if not _is_number(text, self.least, self.most):
            self.fail(f"{text!r} is not a whole number from {self.least} to {self.most}", param, ctx)
        return int(text)


class PortRangeType(click.ParamType[Ports]):
    """`80` or `8000-8010`."""

    name = "port[-port]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Ports:
        if isinstance(value, Ports):
            return value
        text = str(value).strip()
        if not re.fullmatch(r"\d+(-\d+)?", text, re.ASCII):
            self.fail(f"{text!r} is not a port and not a range of ports: write 80 or 8000-8010", param, ctx)
        first, dash, last = text.partition("-")
        if not dash:
            port = PORT.convert(first, param, ctx)
            return Ports(port, port)
        if not all(_is_number(end, 1, MAX_PORT) for end in (first, last)):
            self.fail(f"{text!r} is not a range of ports: they go from 1 to {MAX_PORT}", param, ctx)
        low, high = int(first), int(last)
        if low > high:
            self.fail(f"{value!r} is empty: write {high}-{low}", param, ctx)
        return Ports(low, high)


class CidrType(click.ParamType[Any]):
    """A network without host bits, as `ipaddress.ip_network` gives it; of one IP version if one is given."""

    name = "cidr"

    def __init__(self, version: int | None = None) -> None:
        self.version = version

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            network = ip_network(value)
        except ValueError:
            network = None
        if network and self.version in {None, network.version}:
            return network
        if network:
            self.fail(f"{value!r} is IPv{network.version}: give an IPv{self.version} network", param, ctx)
        try:
            nearest = ip_network(value, strict=False)
        except ValueError:
            self.fail(f"{value!r} is not a network: give something like 10.96.0.0/12 or fd00::/8", param, ctx)
        self.fail(f"{value!r} has host bits set: write {nearest}", param, ctx)


class AddressType(click.ParamType[Any]):
    """One IP address without a zone."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            address = ip_address(value)
        except ValueError:
            self.fail(f"{value!r} is not an IP address", param, ctx)
        if isinstance(address, IPv6Address) and address.scope_id:
            self.fail(
                f"{value!r} has a zone, which has no meaning here: write {str(address).partition('%')[0]}", param, ctx
            )
        return address


class SecondsType(click.ParamType[float]):
    """A time in seconds, above 0 or from `least` on, at most a week."""

    name = "seconds"
    most = 7 * 24 * 3600

    def __init__(self, least: float | None = None) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII):
            self.fail(f"{text!r} is not a time in seconds: write 3 or 0.5", param, ctx)
        seconds = float(text)
        if seconds > self.most or (seconds <= 0 if self.least is None else seconds < self.least):
            bound = "above 0" if self.least is None else f"from {self.least:g}"
            self.fail(f"{text!r} is out of range: give seconds {bound} up to {self.most}", param, ctx)
        return seconds


class InterfaceType(click.ParamType[str]):
    """A network interface's name by the kernel's rules (dev_valid_name in net/core/dev.c), printable ASCII only."""

    name = "interface"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not re.fullmatch(r"[!-~]+", text) or text in {".", ".."} or set(text) & set('/:"\\'):
            self.fail(
                f"{text!r} is not an interface name: printable characters without space, '/', ':', quote", param, ctx
            )
        if len(text) > MAX_INTERFACE_BYTES:
            self.fail(
                f"{text!r} is too long for an interface name: at most {MAX_INTERFACE_BYTES} characters", param, ctx
            )
        return text


class IdType(click.ParamType[int]):
    """A user's or a group's number, or a name that is looked up at once."""

    def __init__(self, name: str, look_up: Callable[[str], int]) -> None:
        self.name = name
        self.look_up = look_up

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).strip()
        if text.isascii() and text.isdigit():
            if not _is_number(text, 0, MAX_ID):
                self.fail(f"{text!r} is out of range: a {self.name} id is at most {MAX_ID}", param, ctx)
            return int(text)
        try:
            return self.look_up(text)
        except (KeyError, ValueError):
            self.fail(f"there is no {self.name} {text!r} on this machine: create it, or give its number", param, ctx)


SWITCH = SwitchType()
PORT = PortType()
PORT_RANGE = PortRangeType()
CIDR = CidrType()
ADDRESS = AddressType()
INTERFACE = InterfaceType()
SECONDS = SecondsType()
HEARTBEAT_SECONDS = SecondsType(least=MIN_HEARTBEAT_TIMEOUT_S)
USER = IdType("user", lambda name: pwd.getpwnam(name).pw_uid)
GROUP = IdType("group", lambda name: grp.getgrnam(name).gr_gid)


class Keyword(click.ParamType[Any]):
    """A type that also takes certain words, such as `*` or `all`, and gives them back as they are."""

    def __init__(self, inner: click.ParamType[Any], *words: str) -> None:
        self.inner = inner
        self.words = words
        self.name = "|".join((*words, inner.name))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value in self.words else self.inner.convert(value, param, ctx)


class ListType(click.ParamType[tuple[T, ...]], Generic[T]):
    """A comma list; `option(..., many=True)` joins the lists of a repeated flag."""

    def __init__(self, inner: click.ParamType[T]) -> None:
        self.inner = inner
        self.name = f"{inner.name}[,…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[T, ...]:
        if isinstance(value, tuple):
            return value
        items = value if isinstance(value, list) else [item.strip() for item in str(value).split(",")]
        if not items or "" in items:
            self.fail(f"{value!r} has an empty item: leave the option out to get its default", param, ctx)
        return tuple(self.inner.convert(item, param, ctx) for item in items)
