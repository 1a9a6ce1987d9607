"""Ports on loopback for tests: none is given twice, and none is one that the kernel gives away by itself."""

from __future__ import annotations

import itertools
import os
import re
import socket
from typing import Final

ADDRESS: Final = "127.0.0.1"
FIRST: Final = 20_000
"""Above the ports of meshdns and of services, below the kernel's own choice (ip_local_port_range, 32768 by default)."""
EACH_WORKER: Final = 1_000
WORKERS: Final = 12

_worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % WORKERS
_next = itertools.cycle(range(FIRST + _worker * EACH_WORKER, FIRST + (_worker + 1) * EACH_WORKER))
for _ in range(os.getpid() % EACH_WORKER):  # another run of the tests at the same time begins elsewhere
    next(_next)


def free_port() -> int:
    """Return a port of this worker's that is free for UDP and TCP, and that it did not return before."""
    for port in itertools.islice(_next, EACH_WORKER):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind((ADDRESS, port))
                tcp.bind((ADDRESS, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"none of this worker's {EACH_WORKER} ports is free")
