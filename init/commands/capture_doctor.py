"""`meshdns capture doctor`: what is wrong here, why, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from meshdns.capture.errors import PreflightError, SpecError
from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.prove.doctor import PORT_TAKEN, Finding, Level, examine
from meshdns.capture.prove.facts import Known, Nameservers, Standing
from meshdns.capture.prove.gather import gather
from meshdns.capture.prove.standing import standing
from meshdns.capture.system.namespace import entered
from meshdns.init import defaults
from meshdns.init.capture_options import any_given, place_options, spec_options
from meshdns.init.capture_spec import MAX_RESOLV_CONF_BYTES, listed_servers, to_spec
from meshdns.resolver.query.resolvconf import DEFAULT_NAMESERVERS, parse

FOUND_AN_ERROR: Final = 1


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
        stands = standing(backend)
        spec, known, unseen = _wanted(ctx, stands, options)
        facts = gather(spec, known)
    findings = examine(facts, spec)
    if stands.unseen and not any_given(ctx, options):  # whose the ports should be stands in there
        taken = [one for one in findings if one.id == PORT_TAKEN]
        findings = tuple(one for one in findings if one not in taken)
        unseen += tuple(f"whether that is as it should be: {one.diagnosis.cause}" for one in taken)
    unseen += facts.unseen
    if as_json:
        click.echo(json.dumps({"findings": [_plain(one) for one in findings], "unseen": unseen}, indent=2))
    else:
        _print(findings, unseen)
    return FOUND_AN_ERROR if any(one.diagnosis.level is Level.ERROR for one in findings) else 0


def _wanted(
    ctx: click.Context, stands: Standing, options: Mapping[str, Any]
) -> tuple[CaptureSpec, Known, tuple[str, ...]]:
    """Return what is installed, or else what options and defaults say, what is known of it, and what was not seen."""
    known = Known(standing=stands, readyz=f"127.0.0.1:{defaults.ADMIN_PORT}/readyz")
    given = any_given(ctx, options)
    unseen: tuple[str, ...] = ()
    if stands.unseen and not given:
        unseen = (f"what is installed, so options and defaults count: {stands.unseen}",)
    if stands.installed and not given:
        path = stands.installed.spec.resolv_conf
        return stands.installed.spec, replace(known, nameservers=_read(path) if path else None), unseen
    counts = options["dns"] and "resolv-conf" in options["dns_servers"]
    nameservers = _read(str(Path(options["resolv_conf"]).absolute())) if counts else None
    try:
        if nameservers is None or not nameservers.trouble:
            spec, has_family = _spec(options)
            for warning in spec.warnings():  # those of resolv.conf are findings
                click.echo(f"meshdns: warning: {warning}", err=True)
            return spec, replace(known, nameservers=nameservers, has_family=has_family), unseen
    except SpecError as error:
        if nameservers is None:
            raise
        nameservers = Nameservers(path=nameservers.path, trouble=str(error))
    # What can be judged without any nameserver from the file; SpecError: it was not the file.
    servers = tuple(one for one in options["dns_servers"] if one != "resolv-conf")
    spec, _ = _spec({**options, "dns_servers": servers})
    return spec, replace(known, nameservers=nameservers), unseen


def _spec(options: Mapping[str, Any]) -> tuple[CaptureSpec, bool]:
    """Return what options and defaults say, and whether there is a family to choose: where none is, both are meant."""
    try:
        return to_spec(options)[0], True
    except PreflightError:
        if options["family"] != "auto":
            raise
        return to_spec({**options, "family": "both"})[0], False


def _read(path: str) -> Nameservers:
    try:
        servers = listed_servers(path)
        with Path(path).open("rb") as file:
            listed = parse(file.read(MAX_RESOLV_CONF_BYTES).decode(errors="replace"))
    except PreflightError as error:
        return _unreadable(path, error.__cause__)
    except OSError as error:  # it has just gone
        return _unreadable(path, error)
    lists_any = listed.nameservers is not DEFAULT_NAMESERVERS
    return Nameservers(path=path, servers=servers, lists_any=lists_any, unusable=listed.warnings)


def _unreadable(path: str, cause: BaseException | None) -> Nameservers:
    trouble = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    dangling = isinstance(cause, FileNotFoundError) and Path(path).is_symlink()
    return Nameservers(path=path, trouble=trouble, leads_to=str(Path(path).readlink()) if dangling else "")


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
