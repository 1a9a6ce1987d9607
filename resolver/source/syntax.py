"""The spellings that manifests use: domain names, labels, addresses. Text in, value or None out.

Names follow Istio's validation (letters of either case, digits, hyphens; no underscore): RFC 1123 with a wildcard
allowed in front. Labels of objects follow the Kubernetes API conventions.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from meshdns.resolver.source.entry import Address, Network

MAX_PORT: Final = 65535

MAX_NAME_CHARS: Final = 253
"""RFC 1035 section 2.3.4: 255 octets on the wire, of which the first length and the root take two."""

_LABEL: Final = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_FQDN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_WILDCARD: Final = re.compile(rf"(?=[^.]{{1,63}}(?:\.|$))(?:\*|\*-?{_LABEL})(?:\.{_LABEL})*\.?")
_NUMERIC_TOP: Final = re.compile(r"(?:.*\.)?[0-9]+\.?")
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")

DNS_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
"""A port or namespace name: DNS-1123 label, lower case."""
OBJECT_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?", re.ASCII)
"""metadata.name: DNS-1123 subdomain."""
LABEL_KEY: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?", re.ASCII
)
LABEL_VALUE: Final = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)


def is_domain(text: str) -> bool:
    """Return whether `text` is a domain name without a wildcard whose last label is not all digits."""
    return len(text) <= MAX_NAME_CHARS and _FQDN.fullmatch(text) is not None and not has_numeric_top(text)


def is_wildcard_domain(text: str) -> bool:
    """Return whether `text` is a domain name whose first label is `*`, `*label` or `*-label`."""
    return len(text) <= MAX_NAME_CHARS and _WILDCARD.fullmatch(text) is not None and not has_numeric_top(text)


def has_numeric_top(text: str) -> bool:
    """Return whether the last label is all digits, as in an IPv4 address."""
    return text.rstrip(".")[-1:].isdigit() and _NUMERIC_TOP.fullmatch(text) is not None


def host_key(text: str) -> str:
    """Return the name by which a host is looked up: lower case, without the trailing dot."""
    return text.lower().removesuffix(".")


def address(text: str) -> Address | None:
    """Return the IP address, or None; one with a zone (fe80::1%eth0) means nothing in a manifest."""
    try:
        if ":" not in text:
            return IPv4Address(text)
        return None if "%" in text else IPv6Address(text)
    except ValueError:
        return None


def is_address(text: str) -> bool:
    """Return whether `text` is an IP address, without making one of the common sort."""
    return _IPV4.fullmatch(text) is not None or (":" in text and address(text) is not None)


def network(text: str) -> Address | Network | None:
    """Return the CIDR block, its host bits cleared, or the address if it holds only one; None if it is neither."""
    base, _, length = text.partition("/")
    host = address(base)
    if host is None or not (length.isascii() and length.isdigit() and len(length) < len("1000")):
        return None
    bits = int(length)
    if bits >= host.max_prefixlen:
        return host if bits == host.max_prefixlen else None
    pair = (int(host), bits)
    return IPv4Network(pair, strict=False) if isinstance(host, IPv4Address) else IPv6Network(pair, strict=False)


def timestamp(text: str) -> float | None:
    """Return the seconds since the epoch of an RFC 3339 time, or None."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def is_port(number: int) -> bool:
    """Return whether `number` is one that TCP and UDP can carry, 0 excepted."""
    return 0 < number <= MAX_PORT


def is_label(key: str, value: str) -> bool:
    """Return whether the pair is a label by the conventions of the Kubernetes API."""
    return LABEL_KEY.fullmatch(key) is not None and LABEL_VALUE.fullmatch(value) is not None
