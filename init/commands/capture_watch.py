"""`meshdns capture watch`: the rules stay what they should be."""

from __future__ import annotations

import signal
import time

import click

from meshdns.capture.apply.backend import Backend
from meshdns.capture.apply.choice import installed
from meshdns.capture.apply.install import inspect, new_record
from meshdns.capture.apply.record import Record
from meshdns.capture.apply.watch import Watch
from meshdns.capture.apply.watch import watch as keep
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.spec import CaptureSpec, Server
from meshdns.capture.system.namespace import entered
from meshdns.init import logs
from meshdns.init.capture_options import any_given, log_option, place_options, recorded_options
from meshdns.init.capture_spec import listed_servers, to_spec
from meshdns.init.errors import INTERRUPTED
from meshdns.init.stopping import stop_on_signals
from meshdns.init.version import VERSION


@click.command()
@log_option
@recorded_options
@place_options
@click.pass_context
def watch(ctx: click.Context, /, *, netns: str | None, backend: str, log_format: str, **options: object) -> int | None:
    """Put the rules back when somebody else removes them; follow the nameservers of resolv.conf.

    Runs until SIGTERM, SIGINT or `uninstall`.

    Options of `install` may be given too, and then stand in the place of what was recorded.

    \b
    Example:
      meshdns capture watch
    """
    logs.set_up("info", log_format)
    with entered(netns), stop_on_signals() as stop:
        chosen = installed(backend)
        spec = to_spec(options)[0] if any_given(ctx, options) else None
        record = _record(chosen, spec)
        path = record.spec.resolv_conf
        there = Watch(chosen, record, lambda: _listed(path), VERSION, known=None if spec else record)
        keep(there, stop)
        return INTERRUPTED if stop.number == signal.SIGINT else None


def _record(backend: Backend, spec: CaptureSpec | None) -> Record:
    if spec:
        return new_record(spec, backend, VERSION, int(time.time()))
    record = inspect(backend).record
    if record is None:
        raise PreflightError("cannot watch the rules: nothing is installed: run `meshdns capture install` first")
    return record


def _listed(path: str | None) -> tuple[Server, ...] | None:
    try:
        return listed_servers(path) if path else None
    except PreflightError:
        return None
