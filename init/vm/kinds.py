"""Kinds of steps by the word that stands in a manifest: all that looking at a machine, and taking back, has to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshdns.init.vm.account import Group, User
from meshdns.init.vm.place import Directory, File, UnitFile, UnitLink
from meshdns.init.vm.rules import Rules
from meshdns.init.vm.step import Step
from meshdns.init.vm.systemd import Service

KINDS: Final[Mapping[str, type[Step]]] = {
    step.kind: step for step in (Directory, Group, User, File, UnitFile, Service, Rules, UnitLink)
}
