"""Names as keys: text to lower-case wire form and back, label borders, reverse names (RFC 1035, 3596, 4343).

A key is a whole name in uncompressed wire form with ASCII letters in lower case. Two names are the same when their keys
are the same bytes; no other comparison is used anywhere, for text cannot tell a dot inside a label from a border.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Final

NAME_BYTES: Final = 255  # RFC 1035, section 2.3.4, the root's byte included
LABEL_BYTES: Final = 63

IN_ADDR_ARPA: Final = b"\x07in-addr\x04arpa\x00"
IP6_ARPA: Final = b"\x03ip6\x04arpa\x00"

_IPV4_LABELS: Final = 4
_IPV6_LABELS: Final = 32
_NIBBLES: Final = frozenset(b"0123456789abcdef")
_OCTETS: Final = {str(octet).encode(): octet for octet in range(256)}
_SPECIAL: Final = frozenset(b'."\\;()@$ ')
_PRINTABLE: Final = range(0x21, 0x7F)


def to_key(text: str) -> bytes | None:
    """Return the key of a host as manifests write it, with or without the root dot; None when it is no name."""
    if text == ".":
        return b"\x00"
    try:
        labels = text.removesuffix(".").lower().encode("ascii").split(b".")
    except UnicodeEncodeError:
        return None
    if not all(0 < len(label) <= LABEL_BYTES for label in labels):
        return None
    key = b"".join([bytes((len(label),)) + label for label in labels]) + b"\x00"
    return key if len(key) <= NAME_BYTES else None


def to_text(key: bytes) -> str:
    r"""Return a name as zone files write it, without the root dot; what is not printable as `\DDD`."""
    if key == b"\x00":
        return "."
    starts = label_starts(key)
    return ".".join(_label_text(key[start + 1 : start + 1 + key[start]]) for start in starts)


def _label_text(label: bytes) -> str:
    return "".join(
        f"\\{chr(byte)}" if byte in _SPECIAL else chr(byte) if byte in _PRINTABLE else f"\\{byte:03d}" for byte in label
    )


def label_starts(key: bytes) -> tuple[int, ...]:
    """Return the offset of every label's length byte, the root's left out. The key must be well-formed."""
    starts = []
    at = 0
    while key[at]:
        starts.append(at)
        at += key[at] + 1
    return tuple(starts)


def ancestors(key: bytes) -> tuple[bytes, ...]:
    """Return the names above this one, nearest first, the root left out."""
    return tuple(key[start:] for start in label_starts(key)[1:])


def _nibbles_key(nibbles: str) -> bytes:
    return b"".join([b"\x01" + nibble.encode() for nibble in reversed(nibbles)]) + IP6_ARPA


def reverse_zones(network: IPv4Network | IPv6Network) -> tuple[bytes, ...]:
    """Return the keys of the reverse zones that cover the network: as many as its last whole label leaves open."""
    if isinstance(network, IPv4Network):
        octets = -(-network.prefixlen // 8)
        covered = network.subnets(new_prefix=octets * 8)
        return tuple(_octets_key(part.network_address.packed[:octets]) for part in covered)
    nibbles = -(-network.prefixlen // 4)
    parts = network.subnets(new_prefix=nibbles * 4)
    return tuple(_nibbles_key(part.network_address.packed.hex()[:nibbles]) for part in parts)


def _octets_key(octets: bytes) -> bytes:
    labels = [str(octet).encode() for octet in reversed(octets)]
    return b"".join([bytes((len(label),)) + label for label in labels]) + IN_ADDR_ARPA


def reversed_digits(key: bytes, starts: tuple[int, ...]) -> str | None:
    """Return the hexadecimal digits, most significant first, that a reverse name spells: 8 or 32 for a whole address.

    None when the name is no reverse name or one of its labels is no octet or nibble.
    """
    count = len(starts) - 2
    if key.endswith(IN_ADDR_ARPA) and 0 <= count <= _IPV4_LABELS:
        octets = [_OCTETS.get(key[start + 1 : start + 1 + key[start]], -1) for start in reversed(starts[:-2])]
        return None if -1 in octets else bytes(octets).hex()
    if key.endswith(IP6_ARPA) and 0 <= count <= _IPV6_LABELS and key[: 2 * count : 2] == b"\x01" * count:
        nibbles = key[1 : 2 * count : 2][::-1]
        return nibbles.decode() if _NIBBLES.issuperset(nibbles) else None
    return None
