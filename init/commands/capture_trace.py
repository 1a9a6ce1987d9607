"""`meshdns capture trace`: live packets, and the rules of ours that they meet."""

from __future__ import annotations

import contextlib
import signal

import click

from meshdns.capture.apply.choice import installed
from meshdns.capture.apply.install import recorded
from meshdns.capture.policy.plan import plan
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.spec import Address
from meshdns.capture.prove.trace import follow, interest_in
from meshdns.capture.system.namespace import alone, entered
from meshdns.init.capture_options import place_options
from meshdns.init.errors import INTERRUPTED
from meshdns.init.output import is_heard
from meshdns.init.parameters import ADDRESS, PORT, USER
from meshdns.init.stopping import stop_on_signals


@click.command()
@click.option("--uid", type=USER, help="Only packets that this user sends.")
@click.option("--proto", type=click.Choice(["tcp", "udp"]), help="Only packets over this.")
@click.option("--dst", type=ADDRESS, help="Only packets to this address.")
@click.option("--dport", type=PORT, help="Only packets to this port.")
@place_options
def trace(
    *, netns: str | None, backend: str, uid: int | None, proto: str | None, dst: Address | None, dport: int | None
) -> int | None:
    """Follow live packets through the rules, until ^C: by default lookups, and what goes to the pools.

    \b
    Example:
      meshdns capture trace --uid 1000 --proto udp --dport 53
    """
    with entered(netns), alone("trace"), stop_on_signals() as stop:
        there = installed(backend)
        record = recorded(there, "trace packets")
        interest = interest_in(uid=uid, protocol=Protocol(proto) if proto else None, destination=dst, port=dport)
        lines = follow(there.name, record.spec, plan(record.spec).rules(), interest, stop.fileno())
        with contextlib.closing(lines):
            for line in lines:
                click.echo(line)
                if not is_heard():
                    break
        return INTERRUPTED if stop.number == signal.SIGINT else None
