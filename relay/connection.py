"""One client of the relay: what it wanted, where it got, and the line that says how it ended.

Never here: deciding (`route`), connecting (`dial`), moving bytes (`splice`), limits (`server`).
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from time import monotonic

from meshdns.relay.address import SocketAddress, socket_text
from meshdns.relay.attempt import Candidate


@dataclass(eq=False, slots=True)
class Connection:
    """A client's socket and what is known about it so far. `host` is empty for a pass-through and without a lease."""

    client: socket.socket
    peer: tuple[str, int]
    original: SocketAddress
    host: str = ""
    endpoint: Candidate | None = None
    accepted_at: float = field(default_factory=monotonic)
    connected_at: float | None = None


def access_line(connection: Connection, end: str, sent: int = 0, received: int = 0) -> str:
    """Write a finished connection as a line of JSON; times in milliseconds, `time` is when it ended."""
    now = monotonic()
    connected_at = connection.connected_at
    host, port = connection.peer
    return json.dumps(
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": socket_text(ip_address(host), port),
            "destination": socket_text(*connection.original),
            "host": connection.host,
            "endpoint": str(connection.endpoint or ""),
            "end": end,
            "sent_bytes": sent,
            "received_bytes": received,
            "connect_ms": None if connected_at is None else _ms(connected_at - connection.accepted_at),
            "duration_ms": _ms(now - connection.accepted_at),
        },
        separators=(",", ":"),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
