"""`meshdns capture plan`: what `install` would do."""

from __future__ import annotations

import click

from meshdns.capture.apply.backend import BACKENDS, choose
from meshdns.capture.apply.install import new_record
from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.system.namespace import entered
from meshdns.init import capture_report as report
from meshdns.init.capture_options import care_options, istio_documents, place_options, spec_options
from meshdns.init.capture_spec import warned_spec
from meshdns.init.commands.capture import no_dns
from meshdns.init.version import VERSION

FORMATS = ("text", "json", "nft", "iptables")
READERS = {"nft": "nft", "iptables": "iptables-nft"}
"""Whose rules a plan for a program holds, unless a backend was asked for that reads it as well."""


@click.command()
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True, help="What to print.")
@care_options
@spec_options
@place_options
@istio_documents
def plan(form: str, netns: str | None, backend: str, **options: object) -> None:
    """Print what `install` would do. Changes nothing, reads no rules, needs no privilege.

    \b
    Example:
      meshdns capture plan --proxy-uid meshdns
      meshdns capture plan --format nft
    """
    with entered(netns):
        print_plan(backend, warned_spec(options), form)


def print_plan(backend: str, spec: CaptureSpec, form: str) -> None:
    """Print what `install` would do with that backend, as one of `FORMATS`."""
    chosen, reason = choose(backend)
    reader = READERS.get(form, chosen.name)
    if reader.partition("-")[0] != chosen.name.partition("-")[0]:
        chosen, reason = BACKENDS[reader](), f"reads --format {form}"
    if form != "json":
        click.echo(f"# backend {chosen.name}: {reason}")  # a comment to nft and iptables-restore
        if not spec.dns:
            click.echo(f"# {no_dns()}")
    report.print_plan(new_record(spec, chosen, VERSION, None), form)
