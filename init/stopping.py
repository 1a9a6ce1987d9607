"""Door: signals. Being asked to end, as something that can be waited for beside other things."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Readable once one of `SIGNALS` has come; `number` says which."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._read, self._write = socket.socketpair()

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._read.fileno()

    def set(self, number: int, _frame: object = None) -> None:
        """Note a signal; as a handler."""
        self.number = number
        self._write.send(b"\0")

    def close(self) -> None:
        """Free the descriptors."""
        self._read.close()
        self._write.close()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turn `SIGNALS` into a `Stop` for the length of a block, save SIGHUP where it is ignored, as nohup(1) has it."""
    stop = Stop()
    is_by_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heeded = SIGNALS[:-1] if is_by_nohup else SIGNALS
    before = {number: signal.signal(number, stop.set) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()
