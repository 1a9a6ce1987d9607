"""`meshdns demo`: all of it on one machine, in throw-away namespaces."""

from __future__ import annotations

import os
import shutil
import time

import click

from meshdns.init.demo.isolation import inside, run_inside
from meshdns.init.errors import MissingError

PROGRAMS = {"nft": "nftables", "dig": "dnsutils", "curl": "curl", "nsenter": "util-linux", "setpriv": "util-linux"}
WEB_ADDRESSES = ("198.51.100.0", "198.51.100.2")


@click.command()
def demo() -> None:
    """Show names before capture, after it, and with the resolver killed.

    Runs as root, or as a user with subordinate ids (/etc/subuid). Nothing outside its own namespaces is touched, and
    nothing is left behind.

    \b
    Example:
      meshdns demo
    """
    # An ordinary user's PATH on Debian lacks the directories of nft.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise MissingError(f"cannot run the demo: there is no program {program}: install the package {package}")
    if not inside():
        run_inside(["-m", "meshdns.init.cli", "demo"])
    # Only the process inside needs these, and the one outside should start quickly.
    from meshdns.init.demo.pod import WORLD_ADDRESS, Pod, prepare_files  # noqa: PLC0415
    from meshdns.init.demo.story import Story, introduce  # noqa: PLC0415
    from meshdns.init.demo.world import start  # noqa: PLC0415

    began = time.monotonic()
    introduce()
    prepare_files(WORLD_ADDRESS)
    pod = Pod(WEB_ADDRESSES)
    start(WORLD_ADDRESS, {address: f"page of {address}" for address in WEB_ADDRESSES})
    Story(pod).tell()
    click.echo(f"\nEvery step showed what it should, in {time.monotonic() - began:.0f} s. Nothing is left behind.")
