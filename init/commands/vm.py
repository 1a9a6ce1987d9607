"""`meshdns vm`: a virtual machine set up, looked at and taken back."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from meshdns.init import defaults
from meshdns.init.errors import MissingError
from meshdns.init.late import LateGroup
from meshdns.init.parameters import SECONDS
from meshdns.init.version import VERSION
from meshdns.init.vm import layout, walk
from meshdns.init.vm.manifest import Manifest
from meshdns.init.vm.step import Standing

DRIFT: Final = 10
UNSEEN: Final = 3
COMMIT_TIMEOUT_S: Final = 60.0
"""Verification takes some seconds of it."""
FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
PREFIXES: Final = ("MESHDNS_CAPTURE_", "MESHDNS_RESOLVER_")


@click.group(cls=LateGroup, late={})
def vm() -> None:
    """Set this machine up for meshdns, look at it, take everything back.

    \b
    Examples:
      meshdns vm onboard --dry-run
      meshdns vm onboard --manifests /etc/meshdns/entries
      meshdns vm status
    """
    # sudo's and su's PATH may lack the directories of nft, useradd and others.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@vm.command()
@click.option("--dry-run", is_flag=True, help="Check, print what would be done, and change nothing.")
@click.option(
    "--manifests",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR|FILE",
    help=f"Where ServiceEntries are; may be repeated.  [default: {layout.ENTRIES}]",
)
@click.option("--resolver-config", type=FILE, help="Settings of `meshdns resolver run` to take over.")
@click.option("--capture-config", type=FILE, help="Settings of `meshdns capture install` to take over.")
@click.option("--mesh-config", type=FILE, help="IstioOperator or mesh config, whose settings count.")
@click.option(
    "--commit-timeout",
    type=SECONDS,
    default=COMMIT_TIMEOUT_S,
    show_default=True,
    help="Seconds after which new rules give way to those before, unless they have been verified.",
)
def onboard(
    *,
    dry_run: bool,
    manifests: tuple[Path, ...],
    resolver_config: Path | None,
    capture_config: Path | None,
    mesh_config: Path | None,
    commit_timeout: float,
) -> None:
    """Set this machine up: user, settings, units, rules. Safe to run again, with the same options or with others.

    MESHDNS_RESOLVER_… and MESHDNS_CAPTURE_… variables count, and are written into the settings. What is wrong with the
    machine is told before anything is changed, and a first onboarding that fails is taken back whole. Should the
    machine cut itself off, or this command be killed, the new rules go by themselves after --commit-timeout.

    \b
    Examples:
      meshdns vm onboard --dry-run
      meshdns vm onboard --manifests /etc/meshdns/entries
    """
    from meshdns.init.vm.preflight import check_machine, preflight  # noqa: PLC0415 - the other commands do without
    from meshdns.init.vm.settings import Given, vm_settings  # noqa: PLC0415
    from meshdns.init.vm.steps import steps  # noqa: PLC0415

    if not dry_run:
        _need_root("onboard")
    check_machine()
    settings = vm_settings(
        Given(
            manifests=manifests,
            resolver_config=resolver_config,
            capture_config=capture_config,
            mesh_config=mesh_config,
        ),
        os.environ,
    )
    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        del os.environ[name]  # they are in the settings; the programs that we start read these
    found = preflight(settings)
    if not _is_root():
        _warn_of_root("onboarding")
        for what in found.unseen:
            click.echo(f"meshdns: warning: not checked: {what}", err=True)
    for warning in found.warnings:
        click.echo(f"meshdns: warning: {warning}", err=True)
    if found.problems:
        for problem in found.problems[:-1]:
            click.echo(f"meshdns: cannot onboard: {problem}", err=True)
        raise MissingError(f"cannot onboard: {found.problems[-1]}")
    planned = tuple(steps(settings, commit_timeout))
    if dry_run:
        _print(walk.plan(planned, Manifest(layout.ETC)))
        return
    with walk.alone():
        manifest = Manifest(layout.ETC)
        changed = walk.onboard(planned, manifest, click.echo)
    click.echo(f"onboarded: what was done stands in {manifest.path}" if changed else "nothing to do")


@vm.command()
@click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
def offboard(*, dry_run: bool) -> None:
    """Take back everything that `onboard` did. Safe to run again, also after a run that was killed.

    \b
    Example:
      meshdns vm offboard
    """
    if dry_run:
        if not _is_root():
            _warn_of_root("offboarding")
        _print(walk.plan_back(Manifest(layout.ETC)))
        return
    _need_root("offboard")
    with walk.alone():
        manifest = Manifest(layout.ETC)
        was_new = manifest.is_new
        as_before = walk.offboard(manifest, click.echo)
    if was_new:
        click.echo("nothing to do")
        return
    click.echo("offboarded: the machine is as before" + ("" if as_before else " but for what was kept"))


@vm.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(*, as_json: bool) -> int:
    """Print what onboarding has done and how it stands.

    Exits with 10 when something is not as it should be, with 3 when this user may not see all of it.

    \b
    Example:
      meshdns vm status
    """
    manifest = Manifest(layout.ETC)
    if manifest.is_new:
        raise MissingError("cannot tell: this machine is not onboarded: run `meshdns vm onboard`")
    found = walk.status(manifest)
    lookups = _lookups_work()
    standings = {one.look.standing for one in found}
    as_should_be = manifest.is_complete and lookups and Standing.MISSING not in standings
    if as_json:
        click.echo(json.dumps(_document(manifest, found, lookups=lookups), indent=2))
    else:
        _print(_lines(manifest, found, lookups=lookups))
    if not as_should_be:
        return DRIFT
    return UNSEEN if Standing.UNSEEN in standings else 0


def _document(manifest: Manifest, found: tuple[walk.Stands, ...], *, lookups: bool) -> dict[str, Any]:
    steps = [
        {"kind": one.entry.kind, "at": one.entry.at, "standing": one.look.standing.value, "detail": one.look.detail}
        for one in found
    ]
    return {"version": manifest.version, "complete": manifest.is_complete, "lookups": lookups, "steps": steps}


def _lines(manifest: Manifest, found: tuple[walk.Stands, ...], *, lookups: bool) -> Iterator[str]:
    state = "onboarded" if manifest.is_complete else "half onboarded: run `meshdns vm onboard` or `meshdns vm offboard`"
    this = "" if manifest.version == VERSION else f"; this is {VERSION}: run `meshdns vm onboard` to go over to it"
    yield f"{state}, by meshdns {manifest.version}{this}"
    for one in found:
        detail = f" ({one.look.detail})" if one.look.detail else ""
        yield f"{one.look.standing.value}: {one.entry.kind} {one.entry.at}{detail}"
    yield f"lookups: {'reach the resolver' if lookups else 'do not reach the resolver'}"


def _lookups_work() -> bool:
    """Return whether a lookup the way applications make it gets an answer that only our resolver can give."""
    try:
        found = socket.getaddrinfo(f"{secrets.token_hex(8)}.{defaults.PROBE_SUFFIX}", None, socket.AF_INET)
    except OSError:
        return False
    return any(address[0] == "127.0.0.1" for *_, address in found)


def _is_root() -> bool:
    return os.geteuid() == 0


def _warn_of_root(what: str) -> None:
    click.echo(f"meshdns: warning: {what} takes root: run it with sudo", err=True)


def _need_root(what: str) -> None:
    if not _is_root():
        raise MissingError(f"cannot {what} this machine: that takes root: run it with sudo")


def _print(lines: Iterator[str]) -> None:
    is_empty = True
    for line in lines:
        is_empty = False
        click.echo(line)
    if is_empty:
        click.echo("nothing to do")
