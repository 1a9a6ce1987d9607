"""What systemd is told about this process: ready, alive, stopping (sd_notify(3)). Without systemd nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Writes to $NOTIFY_SOCKET; beats the watchdog at half of $WATCHDOG_USEC from the loop that answers."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        usec = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_s = int(usec) / 1_000_000 / 2 if usec.isdigit() and mine else 0.0

    def ready(self) -> None:
        """Say that service has begun, and keep the watchdog quiet from now on."""
        self._send("READY=1")
        if self._address and self._watchdog_s:
            self._beat()

    def stopping(self) -> None:
        """Say that the end has begun; the watchdog goes on, for answering does too."""
        self._send("STOPPING=1")

    def _beat(self) -> None:
        self._send("WATCHDOG=1")
        asyncio.get_running_loop().call_later(self._watchdog_s, self._beat)

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # systemd gone or its socket full: nothing that this process could do about it.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.sendto(state.encode(), self._address)
