"""`meshdns capture watch`: the rules stay what they should be."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

import click

from meshdns.capture.apply.backend import Backend
from meshdns.capture.apply.choice import installed
from meshdns.capture.apply.install import new_record, recorded
from meshdns.capture.apply.record import Record
from meshdns.capture.apply.watch import Watch, logger
from meshdns.capture.apply.watch import watch as keep
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.spec import Server
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
        is_given = any_given(ctx, options)
        record = _given(chosen, options) if is_given else recorded(chosen, "watch the rules")
        keep(Watch(chosen, record, _listed, VERSION, known=None if is_given else record), stop)
        return INTERRUPTED if stop.number == signal.SIGINT else None


def _given(backend: Backend, options: Mapping[str, object]) -> Record:
    spec, warnings = to_spec(options)
    for warning in warnings:
        logger.warning("%s", warning)
    return new_record(spec, backend, VERSION, int(time.time()))


def _listed(path: str) -> tuple[Server, ...] | None:
    try:
        return listed_servers(path)
    except PreflightError:
        return None
