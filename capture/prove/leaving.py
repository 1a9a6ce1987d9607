"""By which interface a packet leaves, and whether that alone keeps it from being captured. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from meshdns.capture.policy.ruleset import Rule, RuleSet
from meshdns.capture.policy.simulate import Fate, Packet, simulate
from meshdns.capture.policy.spec import Family

ANOTHER_INTERFACE: Final = "(another)"
"""Stands for any interface but lo: no interface can be called so."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a route leads: the interface's name, and whether the destination is this machine."""

    interface: str
    local: bool


def hindrance(rules: RuleSet, packet: Packet) -> Rule | None:
    """Return the rule that leaves a packet alone where it would not be, left it by another interface; else None."""
    here = simulate(rules, packet, tuple(Family))
    elsewhere = simulate(rules, replace(packet, out_interface=ANOTHER_INTERFACE, local=False), tuple(Family))
    return here.rule if here.fate is Fate.DIRECT and elsewhere.fate is not Fate.DIRECT else None
