"""What `iptables-save -c` prints -> tables as values, and arguments -> the text that `iptables-restore` reads.

Only the language of these two programs is known here (iptables-save(8)), nothing of what is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SavedRule:
    """One rule: the words behind `-A CHAIN`, and its counters."""

    chain: str
    words: tuple[str, ...]
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class SavedTable:
    """One table of one family: its chains in the order they were printed, with those built in, and its rules."""

    name: str
    chains: tuple[str, ...]
    rules: tuple[SavedRule, ...]
    hidden: bool = False
    """Somebody put into it by nft what iptables has no words for: nothing of it is shown, though it can be changed."""


Tables = Mapping[str, SavedTable]
"""The tables of one family, by name."""

_RULE: Final = re.compile(r"(?:\[(\d+):(\d+)\] )?-A (\S+) ?(.*)")
_HIDDEN: Final = re.compile(r"# Table `(\S+)' is incompatible")
_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_PLAIN: Final = re.compile(r"!|[-A-Za-z0-9_.,:/=+@%]+")


def read_tables(text: str) -> dict[str, SavedTable]:
    """Return the tables in the text; lines that are none of iptables-save's are passed over."""
    tables: dict[str, SavedTable] = {}
    name, chains, rules = "", list[str](), list[SavedRule]()
    for line in text.split("\n"):
        if line.startswith("*"):
            name, chains, rules = line[1:].strip(), [], []
        elif line.startswith(":"):
            chains.append(line[1:].split(" ")[0])
        elif hidden := _HIDDEN.match(line):
            tables[hidden[1]] = SavedTable(hidden[1], (), (), hidden=True)
        elif line == "COMMIT":
            tables[name] = SavedTable(name, tuple(chains), tuple(rules))
        elif found := _RULE.fullmatch(line):
            packets, size, chain, rest = found.groups()
            rules.append(SavedRule(chain, _words(rest), int(packets or 0), int(size or 0)))
    return tables


def _words(text: str) -> tuple[str, ...]:
    return tuple(
        plain or re.sub(r"\\(.)", r"\1", quoted)
        for quoted, plain in (found.groups("") for found in _WORD.finditer(text))
    )


def line_of(words: Iterable[str]) -> str:
    """Return the words as a line of iptables-restore's; ValueError for what no line of it can hold."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    if not word.isprintable():
        raise ValueError(f"iptables-restore has no way to write {word!r}")
    escaped = re.sub(r'(["\\])', r"\\\1", word)
    return f'"{escaped}"'
