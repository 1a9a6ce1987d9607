"""What is wrong with a machine before capture is installed, or why it does not work: each finding with its fix. Pure.

A check looks at the facts and at what is to be installed, and yields diagnoses; `CHECKS` gives each its id, which is
how a finding is known in documents and scripts. What nobody could look at is no finding: `Facts.unseen` lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.prove import doctor_lookups as lookups
from meshdns.capture.prove import doctor_machine as machine
from meshdns.capture.prove import doctor_network as network
from meshdns.capture.prove.diagnosis import Check, Diagnosis, Level
from meshdns.capture.prove.doctor_lookups import RESOLVED
from meshdns.capture.prove.facts import Facts

__all__ = ["CHECKS", "PORT_TAKEN", "RESOLVED", "Diagnosis", "Finding", "Level", "examine"]

PORT_TAKEN: Final = "port-taken"


@dataclass(frozen=True, slots=True)
class Finding:
    """A diagnosis under the id of its check."""

    id: str
    diagnosis: Diagnosis


def examine(facts: Facts, spec: CaptureSpec) -> tuple[Finding, ...]:
    """Return every finding, in the order of the table."""
    return tuple(Finding(name, diagnosis) for name, check in CHECKS.items() for diagnosis in check(facts, spec))


CHECKS: Final[Mapping[str, Check]] = {
    "capability": machine.capability,
    "kernel-old": machine.kernel,
    "program-missing": machine.program,
    "module-missing": machine.module,
    "legacy-and-nft": machine.mixed,
    "docker-dns": lookups.docker_dns,
    "other-mesh": machine.other_mesh,
    "rules-changed": machine.drift,
    "resolv-conf": lookups.resolv_conf,
    "resolved-stub": lookups.stub,
    "nsswitch-bypass": lookups.nsswitch,
    "dns-loop": lookups.loop,
    "no-heartbeat": lookups.heartbeat,
    PORT_TAKEN: network.port_taken,
    "pool-routed": network.pool_route,
    "no-address": network.no_address,
    "no-route": network.no_route,
    "lo-down": network.lo_down,
    "ssh-lockout": network.ssh,
    "saved-rules": machine.saved,
    "cilium-socket-lb": machine.cilium,
    "dns-cache": lookups.cache,
}
