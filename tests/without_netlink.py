"""A program that runs another one where the kernel makes no netlink sockets, as some sandboxes have it (seccomp(2)).

python without_netlink.py PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from pathlib import Path

SOCKET = {"x86_64": 41, "aarch64": 198}
"""The number of socket(2)."""
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16
"""Offsets in struct seccomp_data."""
AF_NETLINK = 16
FILTER = (
    (LOAD, 0, 0, NUMBER_AT),
    (JUMP_IF_EQUAL, 0, 3, SOCKET.get(platform.machine(), 0)),
    (LOAD, 0, 0, FIRST_ARGUMENT_AT),
    (JUMP_IF_EQUAL, 0, 1, AF_NETLINK),
    (RETURN, 0, 0, ERRNO | errno.EAFNOSUPPORT),
    (RETURN, 0, 0, ALLOW),
)
"""linux/filter.h: code, where to go if true and if false, operand."""


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def without(program: str) -> tuple[str, ...]:
    """Return the beginning of a command line that runs `program` so."""
    return (sys.executable, str(Path(__file__).resolve()), program)


def main() -> None:
    """Refuse netlink from now on, and become the program."""
    instructions = b"".join(struct.pack("=HBBI", *one) for one in FILTER)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    filtering = ctypes.byref(Program(len(FILTER), instructions))
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filtering):
        raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the filter is this process's


if __name__ == "__main__":
    main()
