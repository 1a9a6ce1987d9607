"""Where everything of a VM's onboarding stands, and whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ACCOUNT: Final = "meshdns"
"""User and group of the resolver."""
ETC: Final = Path("/etc/meshdns")
RESOLVER_SETTINGS: Final = ETC / "resolver.yaml"
CAPTURE_SETTINGS: Final = ETC / "capture.yaml"
ENTRIES: Final = ETC / "entries"
STATE: Final = Path("/var/lib/meshdns")
RUN: Final = Path("/run/meshdns")
UNITS: Final = Path("/etc/systemd/system")
"""Where an administrator's units stand (systemd.unit(5)); a distribution's package would use /usr/lib."""
AT_BOOT: Final = UNITS / "multi-user.target.wants"

RESOLVER: Final = "meshdns-resolver.service"
CAPTURE: Final = "meshdns-capture.service"
WATCH: Final = "meshdns-watch.service"
