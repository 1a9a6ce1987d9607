"""Whether the resolver is ready: it answers where lookups will be sent, and its heartbeat comes through the rules."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable
from typing import Final

from meshdns.capture.apply.backend import Backend
from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.spec import CaptureSpec, Family
from meshdns.capture.policy.terms import LISTENER
from meshdns.capture.prove.checks import is_ours, query
from meshdns.capture.prove.exchange import Probe, Sender
from meshdns.capture.prove.probe import send_all

NONCE_BYTES: Final = 8
TRY_S: Final = 1.0
PAUSE_S: Final = 0.2
BEAT_POLL_S: Final = 0.1


def wait_ready(spec: CaptureSpec, suffix: str, wait_s: float) -> None:
    """Return once the resolver answers over UDP and TCP in every captured family; PreflightError after `wait_s`.

    `suffix`: the names below it that only our resolver knows.
    """
    if not spec.dns:
        return
    deadline = time.monotonic() + wait_s
    while silent := _silent(spec, suffix, max(min(TRY_S, deadline - time.monotonic()), PAUSE_S)):
        if time.monotonic() >= deadline:
            raise PreflightError(
                f"cannot install: no answer within {wait_s:g} s from the resolver at {', '.join(silent)}: is "
                "`meshdns resolver run` running, and with these listeners?"
            )
        time.sleep(PAUSE_S)


def wait_for_beat(backend: Backend, families: Iterable[Family], wait_s: float) -> frozenset[Family]:
    """Return the families that are alive, once all of `families` are or `wait_s` is over."""
    deadline = time.monotonic() + wait_s
    wanted = frozenset(families)
    while not wanted <= (alive := frozenset(backend.read().alive)) and time.monotonic() < deadline:
        time.sleep(BEAT_POLL_S)
    return alive


def _silent(spec: CaptureSpec, suffix: str, try_s: float) -> list[str]:
    token = os.urandom(NONCE_BYTES).hex()
    message = query(token, suffix)
    probes = [
        Probe(
            sender=Sender(),
            protocol=protocol,
            destination=LISTENER[family].network_address,
            port=spec.dns_port,
            payload=message if protocol is Protocol.UDP else struct.pack("!H", len(message)) + message,
        )
        for family in spec.families
        for protocol in (Protocol.UDP, Protocol.TCP)
    ]
    return [
        f"{probe.destination} port {probe.port} over {probe.protocol.value}"
        for probe, reply in zip(probes, send_all(probes, try_s), strict=True)
        if not is_ours(reply.data, token, stream=probe.protocol is Protocol.TCP)
    ]
