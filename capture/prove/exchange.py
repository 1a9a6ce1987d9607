"""One packet to send and what came back: values that `checks.py` plans and judges and `probe.py` carries out."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshdns.capture.policy.ruleset import Protocol
from meshdns.capture.policy.spec import Address


class Fault(enum.Enum):
    """Why there is no answer."""

    SILENT = "no answer"
    REFUSED = "refused"
    NO_ROUTE = "no route"
    NOT_PERMITTED = "not permitted"


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose a packet is. None: ours, whoever we are."""

    uid: int | None = None
    gid: int | None = None
    mark: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One packet or connection; an empty `payload` only connects. `source_port` 0: any."""

    sender: Sender
    protocol: Protocol
    destination: Address
    port: int
    payload: bytes = b""
    interface: str | None = None
    source_port: int = 0
    answered: bool = True
    """Whether an answer is waited for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: bytes, or why none; `source_port` is the one that the probe left from."""

    data: bytes = b""
    fault: Fault | None = None
    detail: str = ""
    source_port: int = 0
