"""The list: what onboarding does to a machine, in order. Nothing is done here.

Files first, then the resolver, then rules on trial, then the units that keep them; at the very end what starts them at
boot. So a run that is killed anywhere leaves a machine whose lookups work, also after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshdns.init.vm import layout
from meshdns.init.vm.account import Group, User
from meshdns.init.vm.place import Directory, File, UnitFile, UnitLink
from meshdns.init.vm.rules import MESHDNS, Rules
from meshdns.init.vm.settings import VmSettings, as_file
from meshdns.init.vm.step import Step
from meshdns.init.vm.systemd import Service

_TEXTS: Final = Path(__file__).with_name("units")
_USE_RESOLVER_SETTINGS: Final = f"systemctl restart {layout.RESOLVER}"
"""A reload would read the manifests alone."""
_USE_CAPTURE_SETTINGS: Final = f"systemctl reload {layout.CAPTURE}"
"""One transaction: no packet sees the machine without rules, as with a restart."""


def steps(settings: VmSettings, commit_timeout_s: float) -> Iterator[Step]:
    """Yield the steps to a machine with these settings."""
    yield Group(layout.ACCOUNT)
    yield User(layout.ACCOUNT)
    if str(layout.ENTRIES) in settings.resolver["manifests"]:
        yield Directory(str(layout.ENTRIES))
    yield Directory(str(layout.STATE), mode=0o750, whole=True)
    yield Directory(str(layout.RUN), whole=True)
    yield File(str(layout.RESOLVER_SETTINGS), as_file(settings.resolver, _USE_RESOLVER_SETTINGS))
    yield File(str(layout.CAPTURE_SETTINGS), as_file(settings.capture, _USE_CAPTURE_SETTINGS))
    for unit in (layout.RESOLVER, layout.CAPTURE, layout.WATCH):
        yield UnitFile(_unit(unit), _unit_text(unit))
    yield Service(layout.RESOLVER, (_unit(layout.RESOLVER), str(layout.RESOLVER_SETTINGS)))
    yield Rules(str(layout.CAPTURE_SETTINGS), commit_timeout_s)
    yield Service(layout.CAPTURE, (_unit(layout.CAPTURE), str(layout.CAPTURE_SETTINGS)), "reload")
    yield Service(layout.WATCH, (_unit(layout.WATCH), str(layout.CAPTURE_SETTINGS)))
    yield Directory(str(layout.AT_BOOT))
    for unit in (layout.RESOLVER, layout.CAPTURE):
        yield UnitLink(str(layout.AT_BOOT / unit), _unit(unit))


def _unit(name: str) -> str:
    return str(layout.UNITS / name)


def _unit_text(name: str) -> bytes:
    text = (_TEXTS / name).read_text(encoding="utf-8")
    return text.replace("@MESHDNS@", " ".join(MESHDNS)).encode()
