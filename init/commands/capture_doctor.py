"""`meshdns capture doctor`: what is wrong here, why, and what to do about it."""

from __future__ import annotations

import json

import click

from meshdns.capture.prove.doctor import Finding, Level, examine
from meshdns.capture.prove.gather import gather
from meshdns.capture.system.namespace import entered
from meshdns.init.capture_options import place_options, spec_options, to_spec

FOUND_AN_ERROR = 1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@spec_options
@place_options
def doctor(*, netns: str | None, backend: str, as_json: bool, **options: object) -> int:  # noqa: ARG001 - of all commands
    """Look for what keeps capture from working here; needs no privilege, changes nothing.

    Exits with 1 when it finds an error.

    \b
    Example:
      meshdns capture doctor
    """
    with entered(netns):
        spec, warnings = to_spec(options)
        facts = gather(spec)
    for warning in warnings:
        click.echo(f"meshdns: warning: {warning}", err=True)
    findings = examine(facts, spec)
    if as_json:
        click.echo(json.dumps({"findings": [_plain(one) for one in findings], "unseen": facts.unseen}, indent=2))
    else:
        _print(findings, facts.unseen)
    return FOUND_AN_ERROR if any(one.diagnosis.level is Level.ERROR for one in findings) else 0


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
