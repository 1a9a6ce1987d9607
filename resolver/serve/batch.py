"""Many datagrams per system call: recvmmsg(2) and sendmmsg(2) through the C library. door: ctypes.

Only bytes and addresses are moved here; what a packet is answered with is decided elsewhere. A received packet's
address stays where the kernel wrote it, and the reply is sent from there: none is parsed for an answer of ours.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
from collections.abc import Callable
from typing import Final, Literal

SLOTS: Final = 64
"""Datagrams per call, and so per turn of the loop: about half a millisecond of answers."""

REPLY_BYTES: Final = 4096

_PACKET_SHIFT: Final = 16
"""Any UDP payload fits; the pages of a slot are touched only by packets that need them."""
_ADDRESS_BYTES: Final = {socket.AF_INET: 16, socket.AF_INET6: 28}  # sockaddr_in, sockaddr_in6
_ADDRESS_STRIDE: Final = 32
_WORD: Final = ctypes.sizeof(ctypes.c_size_t)
_SIN: Final = struct.Struct("!2xH4s")
_SIN6: Final = struct.Struct("!2xHI16s")


class _IoVec(ctypes.Structure):
    _fields_ = [("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t)]


class _MsgHdr(ctypes.Structure):
    _fields_ = [
        ("msg_name", ctypes.c_void_p),
        ("msg_namelen", ctypes.c_uint),
        ("msg_iov", ctypes.c_void_p),
        ("msg_iovlen", ctypes.c_size_t),
        ("msg_control", ctypes.c_void_p),
        ("msg_controllen", ctypes.c_size_t),
        ("msg_flags", ctypes.c_int),
    ]


class _MMsgHdr(ctypes.Structure):
    _fields_ = [("msg_hdr", _MsgHdr), ("msg_len", ctypes.c_uint)]


def _function(name: str) -> Callable[..., int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    try:
        function = getattr(library, name)
    except AttributeError:
        return None
    function.restype = ctypes.c_int
    arguments = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    function.argtypes = [*arguments, ctypes.c_void_p] if name == "recvmmsg" else arguments
    return function  # type: ignore[no-any-return]  # ctypes: any function of the library


_recvmmsg: Final = _function("recvmmsg")
_sendmmsg: Final = _function("sendmmsg")


def is_available() -> bool:
    """Return whether the C library has both calls (glibc 2.14, musl 1.1; not every other)."""
    return _recvmmsg is not None and _sendmmsg is not None


class Batch:
    """Room for SLOTS packets of one socket and as many replies.

    After `receive`, packet `i` is `packets[i << 16 : (i << 16) + size]`, and `names[i]` stands for its client. Reply
    `j` is written to `replies[j << 12 :]`, with its length in `reply_sizes[j]` and its client in `reply_names[j]`,
    before `send`. The caller writes them itself: a call for each would cost as much as what it does.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._fd = sock.fileno()
        self._family = sock.family
        self.packets = mmap.mmap(-1, SLOTS << _PACKET_SHIFT)
        self.replies = mmap.mmap(-1, SLOTS * REPLY_BYTES)
        self._addresses = mmap.mmap(-1, SLOTS * _ADDRESS_STRIDE)
        names, size = _start(self._addresses), _ADDRESS_BYTES[sock.family]
        self.names: Final = [names + slot * _ADDRESS_STRIDE for slot in range(SLOTS)]
        incoming = _headers(_start(self.packets), 1 << _PACKET_SHIFT, names, size)
        outgoing = _headers(_start(self.replies), REPLY_BYTES, names, size)
        self._kept = (incoming, outgoing)  # what the addresses below point into
        self._in, self._out = ctypes.addressof(incoming[0]), ctypes.addressof(outgoing[0])
        self._sizes = _words(incoming[0], "I")[_MMsgHdr.msg_len.offset // 4 :: ctypes.sizeof(_MMsgHdr) // 4]
        self.reply_names = _words(outgoing[0], "L")[:: ctypes.sizeof(_MMsgHdr) // _WORD]
        self.reply_sizes = _words(outgoing[1], "L")[1::2]

    def receive(self) -> list[int]:
        """Return the sizes of what could be read without waiting; empty when there is nothing."""
        assert _recvmmsg is not None  # noqa: S101 - `is_available` was asked
        count = _recvmmsg(self._fd, self._in, SLOTS, socket.MSG_DONTWAIT, None)
        return self._sizes[:count].tolist() if count > 0 else []

    def send(self, count: int) -> int:
        """Send the first `count` replies; return how many could not be sent and are given up."""
        assert _sendmmsg is not None  # noqa: S101 - as above
        at = unsent = 0
        while at < count:
            sent = _sendmmsg(self._fd, self._out + at * ctypes.sizeof(_MMsgHdr), count - at, socket.MSG_DONTWAIT)
            if sent <= 0:  # the first of them is what the kernel will not take
                unsent += 1
                sent = 1
            at += sent
        return unsent

    def client(self, slot: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return the address of a received packet as the socket module writes it."""
        at = slot * _ADDRESS_STRIDE
        if self._family == socket.AF_INET:
            port, packed = _SIN.unpack_from(self._addresses, at)
            return socket.inet_ntop(socket.AF_INET, packed), port
        port, flow, packed = _SIN6.unpack_from(self._addresses, at)
        (scope,) = struct.unpack_from("=I", self._addresses, at + _SIN6.size)
        return socket.inet_ntop(socket.AF_INET6, packed), port, flow, scope


def _start(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _headers(
    memory: int, stride: int, names: int, name_bytes: int
) -> tuple[ctypes.Array[_MMsgHdr], ctypes.Array[_IoVec]]:
    """Lay out one message per slot: one buffer, one address."""
    vectors = (_IoVec * SLOTS)()
    headers = (_MMsgHdr * SLOTS)()
    for slot in range(SLOTS):
        vectors[slot] = _IoVec(memory + slot * stride, stride)
        header = headers[slot].msg_hdr
        header.msg_name = names + slot * _ADDRESS_STRIDE
        header.msg_namelen = name_bytes
        header.msg_iov = ctypes.addressof(vectors) + slot * ctypes.sizeof(_IoVec)
        header.msg_iovlen = 1
    return headers, vectors


def _words(array: ctypes.Array[_MMsgHdr] | ctypes.Array[_IoVec], kind: Literal["I", "L"]) -> memoryview[int]:
    return memoryview(array).cast("B").cast(kind)  # a C long has the size of size_t on every Linux
