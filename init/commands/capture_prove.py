"""`meshdns capture verify`: whether capture works, told step by step."""

from __future__ import annotations

import click

from meshdns.capture.apply.choice import installed
from meshdns.capture.errors import PreflightError, VerificationError
from meshdns.capture.policy.spec import Server
from meshdns.capture.prove.judge import Finding, Outcome
from meshdns.capture.prove.verify import Question
from meshdns.capture.prove.verify import verify as verify_steps
from meshdns.capture.system.namespace import entered
from meshdns.init import defaults
from meshdns.init.capture_options import (
    any_given,
    place_options,
    recorded_options,
    rules_only_option,
)
from meshdns.init.capture_spec import listed_servers, warned_spec


@click.command()
@rules_only_option
@recorded_options
@place_options
@click.pass_context
def verify(ctx: click.Context, /, *, netns: str | None, backend: str, rules_only: bool, **options: object) -> None:
    """Prove with packets that lookups arrive, that what is excluded does not, and that every rule counts.

    Exits with 126 when a step fails.

    Options of `install` may be given too, and then stand in the place of what was recorded.

    \b
    Example:
      meshdns capture verify
    """
    with entered(netns):
        spec = warned_spec(options) if any_given(ctx, options) else None
        question = Question(spec, _listed(str(options["resolv_conf"])), defaults.PROBE_SUFFIX)
        findings = []
        for finding in verify_steps(installed(backend), question, rules_only=rules_only):
            _print(finding)
            findings.append(finding)
    failed = [finding for finding in findings if finding.outcome is Outcome.FAILED]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise VerificationError(f"cannot verify capture: {failed[0].step}: {failed[0].why}{more}")


def _listed(path: str) -> tuple[Server, ...]:
    """Return resolv.conf's servers, which are asked where every server is captured; none if it cannot be read."""
    try:
        return listed_servers(path)
    except PreflightError:
        return ()


def _print(finding: Finding) -> None:
    why = f": {finding.why}" if finding.why else ""
    click.echo(f"{finding.outcome.value:<9} {finding.step}{why}")
