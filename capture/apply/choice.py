"""Which backend does the work, and why; and what to do where another one holds an older installation.

A backend is chosen by what works in a scratch namespace: trying never changes the namespace that capture is for. Once
something is installed, `auto` stays with the backend that holds it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from meshdns.capture.apply.backend import AUTO, BACKENDS, Backend
from meshdns.capture.apply.compare import Condition
from meshdns.capture.apply.install import Installation, uninstall
from meshdns.capture.dialects.iptables.heartbeat import HEARTBEATS
from meshdns.capture.dialects.nft.render import NAME
from meshdns.capture.dialects.observed import NOTHING, Observed
from meshdns.capture.errors import CaptureError, LeftoverError, PreflightError
from meshdns.capture.policy.ruleset import RuleSet
from meshdns.capture.policy.spec import Family
from meshdns.capture.system.nftables import has_table
from meshdns.capture.system.runner import MissingProgramError, demand
from meshdns.capture.system.scratch import NoScratchError, in_scratch
from meshdns.capture.system.xtables import heartbeats
from meshdns.capture.values import dataclass, replace

ORDER: Final = ("nft", "iptables-nft", "iptables-legacy")
"""What `auto` prefers; libiptc is never chosen unasked."""
SAME_TABLES: Final = frozenset({"iptables-legacy", "libiptc"})
HOLDS: Final = "it holds what is installed"
BEAT_WAIT_S: Final = 1.0
"""Two heartbeats."""
BEAT_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend to install with, why, and what was read of it where it was read."""

    backend: Backend
    reason: str
    held: Observed | None = None


def choose_working(name: str, rules: RuleSet) -> Choice:
    """Return the backend of that name, or for `auto` the one that holds an installation or else the first that works.

    PreflightError: none works, and why.
    """
    if name != AUTO:
        return Choice(BACKENDS[name](), "asked for")
    if heartbeats(HEARTBEATS) is not None and (held := (backend := installed(AUTO)).read()).present:
        return Choice(backend, HOLDS, held)
    failures: list[str] = []
    for backend in (BACKENDS[each]() for each in ORDER):
        try:
            held = backend.read()
            if held.present:
                return Choice(backend, HOLDS, held)
            reason = _try(backend, rules)
        except CaptureError as error:
            failures.append(f"{backend.name}: {error}")
            continue
        return Choice(backend, "; ".join([reason, *(f"not {failure}" for failure in failures)]), held)
    raise PreflightError(f"cannot find a backend that works here: {'; '.join(failures)}")


def installed(name: str) -> Backend:
    """Return the backend of that name, or for `auto` the one that holds an installation or else the first there is."""
    if name != AUTO:
        return BACKENDS[name]()
    found: list[Backend] = []
    blind: list[Backend] = []
    # Those of iptables first where rules of theirs are.
    names = sorted(ORDER, key=lambda each: each == ORDER[0]) if heartbeats(HEARTBEATS) is not None else ORDER
    for backend in (BACKENDS[each]() for each in names):
        try:
            if backend.read().present:
                return backend
            found.append(backend)
        except MissingProgramError:
            if _left_traces(backend.name):
                blind.append(backend)
        except PreflightError:
            found.append(backend)
    # Those that cannot be read will say why when they are.
    return next(iter((*blind, *found)), BACKENDS[ORDER[0]]())


def held_elsewhere(chosen: Backend) -> Mapping[str, Observed]:
    """Return what other backends hold, by their names; PreflightError where something is held that cannot be read here.

    Whoever installs with `chosen` asks before, and gives `remove_elsewhere` the answer after.
    """
    held, unread = _elsewhere(chosen)
    for name, why in unread.items():
        raise PreflightError(f"cannot read what {name} holds beside {chosen.name}: {why}")
    return held


def with_others(found: Installation, chosen: Backend) -> Installation:
    """Return what was found of `chosen`, with what other backends hold beside it as drift: packets meet both."""
    if found.condition is Condition.ABSENT:
        return found
    beside = tuple(
        f"also installed with {name}: `meshdns capture install`, with the options that are to stay, removes it"
        for names in _elsewhere(chosen)
        for name in names
    )
    condition = Condition.STALE if beside and found.condition is Condition.SAME else found.condition
    return replace(found, condition=condition, drift=(*found.drift, *beside), beside=beside)


def _elsewhere(chosen: Backend) -> tuple[Mapping[str, Observed], Mapping[str, PreflightError]]:
    """Return what other backends hold, by their names, and why what is held cannot be read, by the program's."""
    held: dict[str, Observed] = {}
    unread: dict[str, PreflightError] = {}
    for backend in _may_hold(chosen):
        try:
            found = backend.read()
        except PreflightError as error:
            unread[backend.name] = error
            continue
        if found.present:
            held[backend.name] = found
    telling: dict[str, PreflightError] = {}
    for name, why in unread.items():
        # Of the two variants of iptables, what is left tells that there is one, but not which.
        is_telling = name == ORDER[0] or (chosen.name == ORDER[0] and not held)
        if is_telling and _left_traces(name):
            telling.setdefault(name.partition("-")[0], why)
    return held, telling


def shared_switch(chosen: Backend, held: Mapping[str, Observed]) -> frozenset[Family]:
    """Return the families that are alive by rules held elsewhere whose switch is the chosen backend's too.

    All of iptables look at one list of heartbeats.
    """
    if chosen.name == ORDER[0]:
        return frozenset()
    return frozenset().union(*(found.alive for name, found in held.items() if name != ORDER[0]))


def remove_elsewhere(chosen: Backend, held: Mapping[str, Observed]) -> None:
    """Remove what other backends hold. What `chosen` holds must be verified in the kernel.

    LeftoverError: it could not be removed, or not all of it.
    """
    for name, found in held.items():
        try:
            _await_heartbeats(chosen, found.alive)
            BACKENDS[name]().remove()
        except CaptureError as error:
            what = f"installed with {chosen.name}, but what {name} holds is still there"
            raise LeftoverError(f"{what}: {error}: run the same `meshdns capture install` again") from error


def uninstall_everywhere(name: str) -> bool:
    """Remove everything of ours by the backend of that name, for `auto` by all; returns whether there was anything."""
    if name != AUTO:
        return uninstall(BACKENDS[name]())
    removed = False
    missing: dict[str, MissingProgramError] = {}
    for each in ORDER:
        try:
            removed |= uninstall(BACKENDS[each]())
        except MissingProgramError as error:
            missing[each] = error
    for each, why in missing.items():
        if _left_traces(each):
            raise why
    return removed


def _left_traces(name: str) -> bool:
    """Return whether the kernel itself says that a backend whose program is gone has rules here."""
    return bool(has_table(NAME)) if name == ORDER[0] else heartbeats(HEARTBEATS) is not None


def _may_hold(chosen: Backend) -> list[Backend]:
    """Return the other backends that may hold something.

    Those of iptables have a list of heartbeats as long as they hold rules, so where there is none, an installation by
    nft runs no other program.
    """
    by_nft = chosen.name == ORDER[0]
    if by_nft and heartbeats(HEARTBEATS) is None:
        return []
    same = SAME_TABLES if chosen.name in SAME_TABLES else {chosen.name}
    return [BACKENDS[name]() for name in ORDER if name not in same]


def _try(backend: Backend, rules: RuleSet) -> str:
    try:
        in_scratch(lambda: backend.replace(rules, (), NOTHING, 0))
    except NoScratchError:
        if backend.name == ORDER[0]:
            demand(ORDER[0])  # without an installation to read, it was not needed so far
        return "it answers (not tried: no scratch namespace without CAP_SYS_ADMIN)"
    return "it works in a scratch namespace"


def _await_heartbeats(chosen: Backend, alive: frozenset[Family]) -> None:
    """Wait until the switch of the new rules has seen the resolver too, so that no lookup passes it by in between."""
    deadline = time.monotonic() + BEAT_WAIT_S
    while not alive <= chosen.read().alive and time.monotonic() < deadline:
        time.sleep(BEAT_POLL_S)
