"""The words of an iptables rule <-> what python-iptables calls its parameters.

A rule is plain data here, so that all of it can be tried without the library. A parameter is `[name, value]`, where `!`
at the beginning of the value negates it and a parameter without a value has an empty one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from meshdns.capture.dialects.iptables.arguments import WITH_TWO_VALUES, WITHOUT_VALUE

Parameters = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Extension:
    """A match or a target: its name and its parameters."""

    name: str
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class RuleParameters:
    """One rule. `header` holds what belongs to no extension, by the names of python-iptables' attributes."""

    header: Mapping[str, str]
    matches: tuple[Extension, ...]
    target: Extension | None


HEADER: Final = {"-s": "src", "-d": "dst", "-i": "in_interface", "-o": "out_interface", "-p": "protocol"}


def to_parameters(words: Sequence[str]) -> RuleParameters:
    """Return a rule of ours for python-iptables."""
    header: dict[str, str] = {}
    matches: list[tuple[str, list[tuple[str, str]]]] = []
    target: tuple[str, list[tuple[str, str]]] | None = None
    negation = ""
    remaining = iter(words)
    for word in remaining:
        if word == "!":
            negation = "!"
        elif word == "-m":
            matches.append((next(remaining), []))
        elif word == "-j":
            target = (next(remaining), [])
        elif word in HEADER:
            header[HEADER[word]] = negation + next(remaining)
            negation = ""
        else:
            count = 0 if word in WITHOUT_VALUE else 2 if word in WITH_TWO_VALUES else 1
            value = " ".join(itertools.islice(remaining, count))
            (target or matches[-1])[1].append((word.removeprefix("--"), negation + value))
            negation = ""
    return RuleParameters(
        header,
        tuple(Extension(name, tuple(found)) for name, found in matches),
        Extension(target[0], tuple(target[1])) if target else None,
    )


def to_words(rule: RuleParameters) -> tuple[str, ...]:
    """Return the words of a rule that python-iptables has read."""
    return tuple(_words(rule))


def _words(rule: RuleParameters) -> Iterator[str]:
    for option, name in HEADER.items():
        value = rule.header.get(name, "")
        if value and not _is_no_question(option, value):
            yield from _option(option, value)
    for match in rule.matches:
        yield from ("-m", match.name)
        yield from _parameters(match.parameters)
    if rule.target:
        yield from ("-j", rule.target.name)
        yield from _parameters(rule.target.parameters)


def _is_no_question(option: str, value: str) -> bool:
    """python-iptables shows every packet's addresses and protocol, asked for or not."""
    if option in {"-s", "-d"}:
        return ip_network(value.removeprefix("!"), strict=False).prefixlen == 0
    return option == "-p" and value == "ip"


def _parameters(parameters: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in parameters:
        yield from _option(f"--{name}", value)


def _option(option: str, value: str) -> Iterator[str]:
    if value.startswith("!"):
        yield "!"
    yield option
    if plain := value.removeprefix("!"):
        yield from plain.split(" ") if option in WITH_TWO_VALUES else [plain]
