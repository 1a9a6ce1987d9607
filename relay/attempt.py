"""One attempt to connect to one socket address, without waiting, and what came of it as a value. connect(2).

Never here: which address is tried, when, and what follows.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Final

from meshdns.relay.address import Address, socket_text
from meshdns.relay.route import UnixPath


class Failure(StrEnum):
    """Why an endpoint was not reached."""

    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNRESOLVED = "unresolved"
    LOOP = "loop"
    NO_FILES = "no-files"
    DRAINED = "drained"
    ERROR = "error"


_FAILURES: Final = {
    errno.ECONNREFUSED: Failure.REFUSED,
    errno.ECONNRESET: Failure.RESET,  # it was reached, and reset us before we looked; a refusal is ECONNREFUSED
    errno.ECONNABORTED: Failure.RESET,
    errno.EAGAIN: Failure.REFUSED,  # a Unix socket whose backlog is full
    errno.EACCES: Failure.REFUSED,
    errno.EPERM: Failure.REFUSED,
    errno.ETIMEDOUT: Failure.TIMEOUT,
    errno.ENETUNREACH: Failure.UNREACHABLE,
    errno.EHOSTUNREACH: Failure.UNREACHABLE,
    errno.EADDRNOTAVAIL: Failure.UNREACHABLE,
    errno.ENOENT: Failure.UNREACHABLE,
    errno.EMFILE: Failure.NO_FILES,
    errno.ENFILE: Failure.NO_FILES,
    errno.ENOBUFS: Failure.NO_FILES,
    errno.ENOMEM: Failure.NO_FILES,
}
_UNDER_WAY: Final = (errno.EINPROGRESS, errno.EALREADY)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One socket address. `of_name` marks an address of a name: the next one may be of the other family."""

    place: Address | UnixPath
    port: int
    of_name: bool = False

    def __str__(self) -> str:
        return str(self.place) if isinstance(self.place, UnixPath) else socket_text(self.place, self.port)

    @property
    def family(self) -> socket.AddressFamily:
        """The family of the socket that reaches it."""
        if isinstance(self.place, UnixPath):
            return socket.AF_UNIX
        return socket.AF_INET if self.place.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP's version

    def address(self) -> str | tuple[str, int]:
        """Give what connect(2) wants."""
        if not isinstance(self.place, UnixPath):
            return str(self.place), self.port
        path = self.place.path
        return "\0" + path[1:] if path.startswith("@") else path


class Attempt:
    """A connect that is under way, connected, or failed (`failure`; the socket is then closed)."""

    __slots__ = ("_address", "candidate", "connected", "failure", "sock", "started_at")

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self._address = candidate.address()
        self.started_at = monotonic()
        self.connected = False
        self.failure: Failure | None = None
        try:
            self.sock = socket.socket(candidate.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self.failure = _FAILURES.get(error.errno or 0, Failure.ERROR)
            return
        self.look()
        if not self.connected and self.failure is None:
            self.look()  # loopback and Unix sockets are connected by now, or refused

    def look(self) -> None:
        """Ask the kernel how far it is. Asking too early is harmless, unlike with SO_ERROR, which then says 0."""
        try:
            error = self.sock.connect_ex(self._address)
        except (OSError, ValueError):  # a path that is too long or holds a zero byte
            error = errno.EINVAL
        if error in (0, errno.EISCONN):
            self.connected = True
        elif error not in _UNDER_WAY:
            self.failure = _FAILURES.get(error, Failure.ERROR)
            self.sock.close()
