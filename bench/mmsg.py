"""Many queries per system call, with nothing left to do in Python per query: recvmmsg(2), sendmmsg(2). door: ctypes.

A generator that spends more on a query than the server does would measure itself. So all messages are laid out before
the clock runs, and afterwards only the place where the next ones begin changes.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
from collections.abc import Sequence
from typing import Final

REPLY_BYTES: Final = 512
AT_ONCE: Final = 64

_MSG_WAITFORONE: Final = 0x10000
_GOOD_FLAGS: Final = b"\x00\x80"
"""The second byte of flags with RCODE 0: recursion available or not, nothing else set."""


class _IoVec(ctypes.Structure):
    _fields_ = [("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t)]


class _MMsgHdr(ctypes.Structure):
    _fields_ = [
        ("msg_name", ctypes.c_void_p),
        ("msg_namelen", ctypes.c_uint),
        ("msg_iov", ctypes.c_void_p),
        ("msg_iovlen", ctypes.c_size_t),
        ("msg_control", ctypes.c_void_p),
        ("msg_controllen", ctypes.c_size_t),
        ("msg_flags", ctypes.c_int),
        ("msg_len", ctypes.c_uint),
        ("_padding", ctypes.c_uint),
    ]


_SIZE: Final = ctypes.sizeof(_MMsgHdr)
_library: Final = ctypes.CDLL(None, use_errno=True)
_library.sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
_library.recvmmsg.argtypes = [*_library.sendmmsg.argtypes, ctypes.c_void_p]


class Outgoing:
    """Queries in the order in which they leave, over and over."""

    def __init__(self, queries: Sequence[bytes]) -> None:
        packets = [(number & 0xFFFF).to_bytes(2, "big") + query[2:] for number, query in enumerate(queries)]
        self._count = len(packets)
        self._bytes = ctypes.create_string_buffer(b"".join(packets))
        self._headers, self._vectors = _laid_out([len(packet) for packet in packets], ctypes.addressof(self._bytes))
        self._first = ctypes.addressof(self._headers)
        self._next = 0

    def send(self, sock: socket.socket, count: int) -> None:
        """Send the next `count` queries; what the kernel does not take is lost."""
        if self._next + count > self._count:
            self._next = 0
        _library.sendmmsg(sock.fileno(), self._first + self._next * _SIZE, count, 0)
        self._next += count


class Incoming:
    """Room for replies."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, AT_ONCE * REPLY_BYTES)
        self._view = memoryview(self._memory)
        at = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._headers, self._vectors = _laid_out([REPLY_BYTES] * AT_ONCE, at)
        self._first = ctypes.addressof(self._headers)

    def receive(self, sock: socket.socket) -> tuple[int, int]:
        """Wait for one reply and take what is there; return how many came, and how many of these were no answer."""
        count = int(_library.recvmmsg(sock.fileno(), self._first, AT_ONCE, _MSG_WAITFORONE, None))
        if count <= 0:
            return 0, 0
        end = count * REPLY_BYTES
        flags, records = bytes(self._view[3:end:REPLY_BYTES]), bytes(self._view[7:end:REPLY_BYTES])
        return count, len(flags.translate(None, _GOOD_FLAGS)) + records.count(0)


def _laid_out(sizes: Sequence[int], start: int) -> tuple[ctypes.Array[_MMsgHdr], ctypes.Array[_IoVec]]:
    vectors = (_IoVec * len(sizes))()
    headers = (_MMsgHdr * len(sizes))()
    first = ctypes.addressof(vectors)
    for number, size in enumerate(sizes):
        vectors[number] = _IoVec(start, size)
        headers[number].msg_iov = first + number * ctypes.sizeof(_IoVec)
        headers[number].msg_iovlen = 1
        start += size
    return headers, vectors
