"""`meshdns capture doctor`: what is wrong here, why, and what to do about it."""

from __future__ import annotations

import json

import click

from meshdns.capture.apply.backend import Backend
from meshdns.capture.apply.choice import installed
from meshdns.capture.apply.install import inspect
from meshdns.capture.errors import CaptureError
from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.prove.doctor import PORT_TAKEN, Finding, Level, examine
from meshdns.capture.prove.gather import gather
from meshdns.capture.system.namespace import entered
from meshdns.init.capture_options import any_given, place_options, spec_options
from meshdns.init.capture_spec import warned_spec

FOUND_AN_ERROR = 1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@spec_options
@place_options
@click.pass_context
def doctor(ctx: click.Context, /, *, netns: str | None, backend: str, as_json: bool, **options: object) -> int:
    """Look for what keeps capture from working here; needs no privilege, changes nothing.

    Exits with 1 when it finds an error. Without options it goes by what is installed, and where nothing is by the
    defaults of `install`.

    \b
    Example:
      meshdns capture doctor
    """
    with entered(netns):
        spec, unseen = _wanted(ctx, installed(backend), options)
        facts = gather(spec)
    findings = examine(facts, spec)
    if unseen:  # whose the ports should be stands in there
        taken = [one for one in findings if one.id == PORT_TAKEN]
        findings = tuple(one for one in findings if one not in taken)
        unseen += tuple(f"whether that is as it should be: {one.diagnosis.cause}" for one in taken)
    unseen += facts.unseen
    if as_json:
        click.echo(json.dumps({"findings": [_plain(one) for one in findings], "unseen": unseen}, indent=2))
    else:
        _print(findings, unseen)
    return FOUND_AN_ERROR if any(one.diagnosis.level is Level.ERROR for one in findings) else 0


def _wanted(ctx: click.Context, backend: Backend, options: dict[str, object]) -> tuple[CaptureSpec, tuple[str, ...]]:
    """Return what is installed, or else what the options and defaults say; and what of that could not be looked at."""
    unseen: tuple[str, ...] = ()
    if not any_given(ctx, options):
        try:
            record = inspect(backend).record
        except CaptureError as error:
            unseen = (f"what is installed, so options and defaults count: {error}",)
        else:
            if record is not None:
                return record.spec, ()
    return warned_spec(options), unseen


def _plain(finding: Finding) -> dict[str, str]:
    diagnosis = finding.diagnosis
    return {"id": finding.id, "level": diagnosis.level.value, "cause": diagnosis.cause, "fix": diagnosis.fix}


def _print(findings: tuple[Finding, ...], unseen: tuple[str, ...]) -> None:
    for finding in findings:
        click.echo(f"{finding.diagnosis.level.value} {finding.id}: {finding.diagnosis.cause}")
        click.echo(f"  fix: {finding.diagnosis.fix}")
    for what in unseen:
        click.echo(f"not looked at: {what}")
    if not findings:
        click.echo("nothing found that keeps capture from working")
