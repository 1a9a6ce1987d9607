"""What the two settings files of a VM say: the operator's settings, then Istio's, then what a VM needs.

A settings file holds what `meshdns resolver run --config` and `meshdns capture install --config` read; what may be said
there is theirs to decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from meshdns.capture.policy.spec import MAX_ID
from meshdns.capture.prove.doctor import RESOLVED
from meshdns.init import defaults
from meshdns.init.capture_options import SETTINGS as CAPTURE_SETTINGS
from meshdns.init.capture_spec import listed_servers
from meshdns.init.commands.capture import install
from meshdns.init.commands.resolver import SETTINGS as RESOLVER_SETTINGS
from meshdns.init.commands.resolver import run
from meshdns.init.options import Settings
from meshdns.init.proxyconfig import proxy_settings
from meshdns.init.vm import layout
from meshdns.init.vm.account import gid_of, uid_of
from meshdns.resolver.source.manifest import read_settings

Values = Mapping[str, Any]
"""By option name, what JSON can hold."""

RESOLVED_UPSTREAMS: Final = Path("/run/systemd/resolve/resolv.conf")
"""Whom systemd-resolved asks (systemd-resolved.service(8)); its stub is what applications ask, and is captured."""
NO_ID: Final = MAX_ID
"""Stands for the account while it does not exist: nobody has this id."""
NOT_KEPT: Final = frozenset({"config", "commit_timeout", "dry_run", "netns"})
"""Options that belong to one run of a command, or to another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the operator has said: files of settings, Istio's mesh config, and where the manifests are."""

    manifests: tuple[Path, ...]
    resolver_config: Path | None
    capture_config: Path | None
    mesh_config: Path | None


@dataclass(frozen=True, slots=True)
class VmSettings:
    """What the two files say."""

    resolver: Values
    capture: Values


def vm_settings(given: Given, environment: Mapping[str, str]) -> VmSettings:
    """Return both files' settings; click's errors and ConfigurationError name what cannot be understood, and where."""
    for settings in (RESOLVER_SETTINGS, CAPTURE_SETTINGS):
        settings.check_environment(environment)
    istio = {name: one.value for name, one in proxy_settings(given.mesh_config, None, environment).settings.items()}
    stub = around_the_stub(Path(defaults.RESOLV_CONF), RESOLVED_UPSTREAMS)
    resolver = {
        "state": str(layout.STATE),
        "proxy-uid": layout.ACCOUNT,
        **stub.resolver,
        **_known(istio, run),
        **_read(given.resolver_config, run),
        **_from_environment(RESOLVER_SETTINGS, run, environment),
    }
    manifests = [str(path.absolute()) for path in given.manifests] or resolver.get("manifests", [str(layout.ENTRIES)])
    capture = {
        "proxy-uid": layout.ACCOUNT,
        "proxy-gid": layout.ACCOUNT,
        **stub.capture,
        **_known(istio, install),
        **_read(given.capture_config, install),
        **_from_environment(CAPTURE_SETTINGS, install, environment),
    }
    return VmSettings({**resolver, "manifests": manifests}, capture)


def as_file(values: Values, how_to_use: str) -> bytes:
    """Return a settings file: YAML, of which JSON's values are a part. `how_to_use`: a command."""
    head = (
        "# Written by `meshdns vm onboard`. What you change here stays until other options are given there;"
        f" to use it:\n# {how_to_use}\n"
    )
    return (head + "".join(f"{name}: {json.dumps(value)}\n" for name, value in values.items())).encode()


def parsed(command: click.Command, file: Path) -> dict[str, Any]:
    """Return what `run` or `install` understands of a settings file, for a user that need not exist; its own errors."""
    uid, gid = uid_of(layout.ACCOUNT), gid_of(layout.ACCOUNT)
    account = ["--proxy-uid", str(NO_ID if uid is None else uid)]
    if command is install:
        account += ["--proxy-gid", str(NO_ID if gid is None else gid)]
    # click keeps the help option that a command is first asked for, and would keep one without -h
    return command.make_context(command.name, ["--config", str(file), *account], help_option_names=[]).params


def around_the_stub(resolv_conf: Path, behind: Path) -> VmSettings:
    """Return what it takes where a resolv.conf lists systemd-resolved's stub; `behind` lists whom that one asks.

    The resolver asks them itself, so that nothing goes round in circles. They are captured beside the stub, so that
    lookups by D-Bus, which pass port 53 of the stub by, come to the resolver as those that systemd-resolved sends.
    """
    listed = [server.network.network_address for server in listed_servers(resolv_conf)]
    if not behind.exists() or not any(address in RESOLVED for address in listed):
        return VmSettings({}, {})
    followed = {"resolv-conf": str(behind)}
    return VmSettings(followed, {**followed, "dns-servers": ["resolv-conf", *map(str, listed)]})


def asks_behind_the_stub(settings: VmSettings) -> bool:
    """Return whether the resolver asks those whom systemd-resolved asks, and not its stub."""
    return bool(settings.resolver.get("resolv-conf") == str(RESOLVED_UPSTREAMS))


def _read(file: Path | None, command: click.Command) -> Values:
    if file is None:
        return {}
    parsed(command, file)
    return _known(read_settings(file), command)


def _known(values: Values, command: click.Command) -> Values:
    return {name: values[name] for name in _names(command) if name in values}


def _from_environment(settings: Settings, command: click.Command, environment: Mapping[str, str]) -> Values:
    return {name: environment[at] for name in _names(command) if (at := settings.variable(name)) in environment}


def _names(command: click.Command) -> Iterable[str]:
    names = (parameter.name for parameter in command.params)
    return [name.replace("_", "-") for name in names if name and name not in NOT_KEPT]
