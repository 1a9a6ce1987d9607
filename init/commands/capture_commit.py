"""`meshdns capture confirm`, and the process that waits with what `install --commit-timeout` replaced."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from meshdns.capture.apply import commit
from meshdns.capture.apply.choice import installed
from meshdns.capture.apply.install import Installation, inspect
from meshdns.capture.errors import ConfirmError
from meshdns.capture.system.namespace import entered, locked
from meshdns.capture.system.outlive import outlive
from meshdns.init.capture_options import place_options
from meshdns.init.capture_words import options
from meshdns.init.version import VERSION


@click.command()
@place_options
def confirm(netns: str | None, backend: str) -> None:
    """Keep what was installed with `--commit-timeout`. Exits with 4 when nothing is pending, or it is too late.

    \b
    Example:
      meshdns capture install --commit-timeout 60
      meshdns capture confirm
    """
    with entered(netns), locked():
        in_force = _in_force(inspect(installed(backend)))
        try:
            commit.confirm()
        except ConfirmError as error:
            raise ConfirmError(f"{error}; in force: {in_force}") from error
    click.echo(f"confirmed; in force: {in_force}")


@click.command(hidden=True)
@click.argument("pending_id")
def revert(pending_id: str) -> None:
    """Wait until the installation of that id is due, and undo it unless it is confirmed. `install` starts this."""
    is_back = commit.wait(pending_id, VERSION)
    click.echo("brought back what was installed before" if is_back else "nothing to bring back")


def start_waiting(pending_id: str) -> None:
    """Start `revert` as a process that outlives this one, made of the same code and finding the same programs."""
    # -P: what lies in the directory that it is started in is none of that code.
    command = [sys.executable, "-P", "-m", "meshdns.init.cli", "capture", "revert", pending_id]
    code = os.pathsep.join(str(Path(place).absolute()) for place in sys.path)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": code}
    outlive(f"meshdns-revert-{pending_id}", command, environment)


def _in_force(found: Installation) -> str:
    """Return the configuration in one line: every option that says something."""
    if found.record:
        return ", ".join(f"{name} {value}" for name, value in options(found.record.spec).items() if value != "none")
    return "what no record tells" if found.held.present else "nothing is installed"
