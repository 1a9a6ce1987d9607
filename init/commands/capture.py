"""`meshdns capture`: the group, and the commands that change what is installed.

Each enters the namespace, asks the library, prints, and gives an exit code. What `install` does not need is imported by
the command that does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import click

from meshdns.capture.apply import commit
from meshdns.capture.apply.backend import Backend
from meshdns.capture.apply.choice import (
    choose_working,
    held_elsewhere,
    remove_elsewhere,
    shared_switch,
    uninstall_everywhere,
)
from meshdns.capture.apply.install import Applied, new_record
from meshdns.capture.apply.install import install as apply_install
from meshdns.capture.apply.preflight import check
from meshdns.capture.apply.record import Record
from meshdns.capture.dialects.nft.render import TRACE_NAME
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.errors import CaptureError, LeftoverError, RollbackError
from meshdns.capture.policy.plan import plan as plan_rules
from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.system.namespace import entered, locked
from meshdns.capture.system.nftables import has_table
from meshdns.capture.system.notes import dismiss_watch
from meshdns.capture.system.uninterrupted import uninterrupted
from meshdns.init import defaults
from meshdns.init.capture_options import (
    SETTINGS,
    care_options,
    istio_documents,
    place_options,
    spec_options,
)
from meshdns.init.capture_spec import warned_spec
from meshdns.init.istio_options import found as found_of_istio
from meshdns.init.late import LateGroup
from meshdns.init.present import waiting
from meshdns.init.version import VERSION

LATE = {
    "confirm": "meshdns.init.commands.capture_commit",
    "diff": "meshdns.init.commands.capture_show",
    "doctor": "meshdns.init.commands.capture_doctor",
    "explain": "meshdns.init.commands.capture_show",
    "plan": "meshdns.init.commands.capture_plan",
    "revert": "meshdns.init.commands.capture_commit",
    "status": "meshdns.init.commands.capture_show",
    "trace": "meshdns.init.commands.capture_trace",
    "verify": "meshdns.init.commands.capture_prove",
    "watch": "meshdns.init.commands.capture_watch",
}
"""Commands that stand elsewhere, so that `install` starts without them."""


@click.group(cls=LateGroup, late=LATE)
def capture() -> None:
    """Send port-53 traffic, and traffic to allocated addresses, to the local resolver and relay.

    \b
    Example:
      meshdns capture install --wait-ready 30
      meshdns capture status
    """
    SETTINGS.check_environment()


@capture.command()
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@care_options
@spec_options
@place_options
@istio_documents
def install(
    *,
    netns: str | None,
    backend: str,
    dry_run: bool,
    wait_ready: float | None,
    commit_timeout: float | None,
    **options: object,
) -> None:
    """Put the rules in place of whatever was installed before, in one transaction. Safe to run again.

    \b
    Example:
      meshdns capture install --wait-ready 30
      meshdns capture install --proxy-uid meshdns --proxy-gid meshdns --commit-timeout 60
    """
    with entered(netns):
        spec = warned_spec(options)
        if dry_run:
            from meshdns.init.commands.capture_plan import print_plan  # noqa: PLC0415 - see LATE

            print_plan(backend, spec, "text")
            return
        if wait_ready:
            _wait_ready(spec, wait_ready)
        for warning in check(spec):
            click.echo(f"meshdns: warning: {warning}", err=True)
        was_on_trial = commit.pending() is not None
        with locked(), _committing(commit_timeout) as settled:
            choice = choose_working(backend, plan_rules(spec))
            elsewhere = held_elsewhere(choice.backend)
            record = new_record(spec, choice.backend, VERSION, int(time.time()))
            shared = shared_switch(choice.backend, elsewhere)
            with uninterrupted():
                done = apply_install(choice.backend, record, choice.held, shared=shared)
                remove_elsewhere(choice.backend, elsewhere)
                is_changed = done.changed or bool(elsewhere)
                settled(is_changed)
        if commit_timeout:
            trial = _how_it_ends(commit_timeout) if is_changed else _how_it_ends()
        else:
            trial = "the trial is over: what is installed stays" if was_on_trial else ""
        unheard = _await_beat(choice.backend, spec) if wait_ready and spec.dns else ()
    click.echo(f"backend {choice.backend.name}: {choice.reason}")
    _print_done(record, done, elsewhere)
    for name in elsewhere:
        click.echo(f"removed what was installed with {name}")
    if not spec.dns:
        click.echo(no_dns())
    for line in unheard:
        click.echo(f"meshdns: {line}", err=True)
    if trial:
        click.echo(trial)


@capture.command()
@place_options
def uninstall(netns: str | None, backend: str) -> None:
    """Remove everything of meshdns, whatever configuration made it. Safe to run again.

    \b
    Example:
      meshdns capture uninstall
    """
    with entered(netns), locked(), uninterrupted():
        removed = uninstall_everywhere(backend)
        _remove_trace()
        # Only what is gone is no longer watched or on trial. The watch looks under the lock, and so not before.
        dismiss_watch()
        commit.disarm()
    click.echo("removed; TCP connections that ran through the redirect may end" if removed else "nothing was installed")


def _print_done(record: Record, done: Applied, elsewhere: Mapping[str, Observed]) -> None:
    """Print whether `record` had to be installed, and how it differs from what its backend held, or else another."""
    if not done.changed:
        before = done.before.record
        by = f" by meshdns {before.version}" if before and before.version != record.version else ""
        click.echo(f"nothing to change: it is installed already{by}")
        return
    click.echo(f"installed for {' and '.join(family.value for family in record.spec.families)}")
    replaced = next((held for held in (done.before.held, *elsewhere.values()) if held.present), None)
    if replaced:
        from meshdns.init.capture_words import difference  # noqa: PLC0415 - a first installation replaces nothing

        click.echo(difference(replaced, record))


def _remove_trace() -> None:
    """Remove what a killed `trace` has left."""
    if has_table(TRACE_NAME):
        from meshdns.capture.prove import trace  # noqa: PLC0415 - see LATE

        trace.remove()


def _wait_ready(spec: CaptureSpec, wait_s: float) -> None:
    from meshdns.capture.prove.ready import wait_ready  # noqa: PLC0415 - nobody else pays for its import

    with waiting(f"waiting up to {wait_s:g} s for the resolver on port {spec.dns_port}"):
        wait_ready(spec, defaults.PROBE_SUFFIX, wait_s)


def _await_beat(backend: Backend, spec: CaptureSpec) -> tuple[str, ...]:
    """Wait until the rules are open: lookups pass by the resolver before its next heartbeat. Returns what is not."""
    from meshdns.capture.prove.ready import wait_for_beat  # noqa: PLC0415 - nobody else pays for its import

    alive = wait_for_beat(backend, spec.families, spec.heartbeat_timeout_s)
    uids = " or ".join(map(str, spec.proxy_uids))
    return tuple(
        f"no heartbeat yet for {family.value}: nothing is captured until the resolver, running as uid {uids}, beats"
        for family in spec.families
        if family not in alive
    )


@contextlib.contextmanager
def _committing(timeout_s: float | None) -> Iterator[Callable[[bool], None]]:
    """Arrange for what is installed now to come back, unless the block fails and promises that nothing has changed.

    Gives the function to say with whether it has, where the block does not fail. Without a timeout, what the block
    installs is meant to stay, and nothing that waited before comes back.
    """
    if timeout_s is None:
        yield lambda _: commit.disarm()
        return
    from meshdns.init.commands.capture_commit import start_waiting  # noqa: PLC0415 - see LATE

    give_up = commit.arm(timeout_s, start_waiting)
    is_settled = False

    def settled(is_changed: bool) -> None:  # noqa: FBT001 - the one thing that it is told
        nonlocal is_settled
        is_settled = True
        if not is_changed:
            give_up()
            commit.end_abandoned()

    try:
        yield settled
    except (LeftoverError, RollbackError):
        click.echo(f"meshdns: {_how_it_ends(timeout_s)}", err=True)
        raise
    except (CaptureError, KeyboardInterrupt):  # ^C acts before the first change, or after the last
        if not is_settled:
            give_up()
        raise


def _how_it_ends(timeout_s: float | None = None) -> str:
    """Return how a trial ends that has just begun or, without `timeout_s`, goes on; nothing where there is none."""
    on_trial, left_s = commit.pending(), commit.seconds_left()
    if on_trial is None or left_s is None:
        return ""
    then = "what was before comes back" if on_trial.previous else "it is removed again"
    when = f"{then} in {timeout_s or round(left_s):g} s, unless you run `meshdns capture confirm`"
    return when if timeout_s else f"still on trial: {when}"


def no_dns() -> str:
    """Return why there are no DNS rules, as far as the options of the running command say it."""
    ctx = click.get_current_context()
    read = found_of_istio(ctx)
    said = read.settings.get("dns") if read else None
    by_istio = said and not said.value and ctx.get_parameter_source("dns") is click.core.ParameterSource.DEFAULT_MAP
    return f"no DNS rules: {said.source} is false" if said and by_istio else "no DNS rules: --no-dns"
