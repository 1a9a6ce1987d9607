"""What a resolv.conf says: the nameservers, all of them, and the search list (resolv.conf(5)).

Reading the file, watching it, and what an address is good for (a port, a rule, an upstream) are the caller's business;
the `options` line is not looked at, for its settings are those of stub resolvers.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address

LOOPBACK4: Final = IPv4Address("127.0.0.1")
LOOPBACK6: Final = IPv6Address("::1")

WARNINGS_MAX: Final = 20
"""A file that is no resolv.conf at all is not repeated line by line in a log."""

NAME_LENGTH_MAX: Final = 253
LABEL_LENGTH_MAX: Final = 63
"""Characters of a name and of one of its labels in text (RFC 1035, section 2.3.4)."""

_COMMENT: Final = ("#", ";")


class Nameserver(NamedTuple):
    """One server; `zone` is the interface of a link-local address such as `fe80::1%eth0`."""

    address: Address
    zone: str | None = None

    def __str__(self) -> str:
        return f"{self.address}%{self.zone}" if self.zone else str(self.address)


class ResolvConf(NamedTuple):
    """`nameservers` in the file's order, each once; `search` lower-case without trailing dots."""

    nameservers: tuple[Nameserver, ...]
    search: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


DEFAULT_NAMESERVERS: Final = (Nameserver(LOOPBACK4), Nameserver(LOOPBACK6))
"""Without a nameserver line the machine's own name server is asked (resolv.conf(5))."""


def parse(text: str) -> ResolvConf:
    """Read the text of a resolv.conf, whose nameservers are never none.

    A line that cannot be used is skipped with a warning and never an error.
    """
    nameservers: dict[Nameserver, None] = {}
    search: tuple[str, ...] = ()
    warnings: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        keyword, *values = _words(line) or [""]
        if keyword == "nameserver":
            nameserver = _nameserver(values)
            if nameserver is None:
                warnings.append(_unusable(number, "nameserver", "".join(values[:1]), "is not an IP address"))
            else:
                nameservers[nameserver] = None
        elif keyword in {"search", "domain"} and values:
            named = values if keyword == "search" else values[:1]
            warnings += [_unusable(number, keyword, name, "is not a name") for name in named if not _is_name(name)]
            search = _search_list(named)
    return ResolvConf(tuple(nameservers) or DEFAULT_NAMESERVERS, search, _at_most(WARNINGS_MAX, warnings))


def _words(line: str) -> list[str]:
    words = line.split()
    end = next((index for index, word in enumerate(words) if word.startswith(_COMMENT)), len(words))
    return words[:end]


def _nameserver(values: list[str]) -> Nameserver | None:
    """Only the first word counts, as in glibc; an IPv4-mapped address is the IPv4 server that packets go to."""
    text, percent, zone = values[0].partition("%") if values else ("", "", "")
    if bool(percent) != bool(zone):
        return None
    address = _address(text)
    if address is None or (zone and not isinstance(address, IPv6Address)):
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        address = LOOPBACK4 if isinstance(address, IPv4Address) else LOOPBACK6
    return Nameserver(address, zone or None)


def _address(text: str) -> Address | None:
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return None


def _search_list(names: Iterable[str]) -> tuple[str, ...]:
    usable = (name.lower().removesuffix(".") for name in names if _is_name(name))
    return tuple(dict.fromkeys(name for name in usable if name))


def _is_name(name: str) -> bool:
    bare = name.removesuffix(".")
    labels = bare.split(".")
    return (
        name.isascii()
        and len(bare) <= NAME_LENGTH_MAX
        and (not bare or all(0 < len(label) <= LABEL_LENGTH_MAX for label in labels))
    )


def _unusable(number: int, keyword: str, value: str, cause: str) -> str:
    return f"line {number}: cannot use {keyword} {value[:NAME_LENGTH_MAX]!r}: it {cause}"


def _at_most(count: int, warnings: list[str]) -> tuple[str, ...]:
    if len(warnings) <= count:
        return tuple(warnings)
    return (*warnings[:count], f"further lines that cannot be used: {len(warnings) - count}")
