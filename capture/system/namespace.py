"""Door: network namespaces. Entering one, what its addresses are, and one change at a time in it.

Without pyroute2, which costs 190 ms: setns(2) and /proc/net say all that is needed here.
"""

# pathlib costs 5 ms: see proc.py
# ruff: noqa: PTH103, PTH108, PTH116, PTH123

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from meshdns.capture.errors import PreflightError, SpecError
from meshdns.capture.policy.spec import Address, Family
from meshdns.capture.system.proc import net_lines

CLONE_NEWNET: Final = 0x40000000
"""linux/sched.h"""
NAMED: Final = "/run/netns"
"""Where `ip netns add` keeps names."""
OWN: Final = "/proc/thread-self/ns/net"
LOCKS: Final = "/run/meshdns"
SO_NETNS_COOKIE: Final = 71
"""asm-generic/socket.h"""
COOKIE_BYTES: Final = 8
BOOT: Final = "/proc/sys/kernel/random/boot_id"
"""random(4)"""
LOCK_WAIT_S: Final = 5.0
LOCK_POLL_S: Final = 0.05


@contextlib.contextmanager
def entered(target: str | None) -> Iterator[None]:
    """Be in another network namespace for the length of a block: `NAME`, a path, or `pid:N`; None stays here.

    Only the calling thread moves, and with it the programs it starts.
    """
    if target is None:
        yield
        return
    path = _path(target)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PreflightError(f"cannot enter network namespace {target!r}: {path}: {error.strerror}") from error
    here = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there, target)
        try:
            yield
        finally:
            _enter(here, OWN)
    finally:
        os.close(there)
        os.close(here)


def _path(target: str) -> str:
    pid = target.removeprefix("pid:")
    if pid != target:
        if not re.fullmatch(r"[1-9][0-9]{0,9}", pid, re.ASCII):
            raise SpecError(f"cannot use --netns {target!r}: after 'pid:' stands the number of a process")
        return f"/proc/{pid}/ns/net"
    if not target or "\0" in target or target in {".", ".."}:
        raise SpecError(f"cannot use --netns {target!r}: give a name from `ip netns`, a path, or pid:N")
    return target if "/" in target else f"{NAMED}/{target}"


def _enter(descriptor: int, name: str) -> None:
    if hasattr(os, "setns"):
        code = 0
        try:
            os.setns(descriptor, CLONE_NEWNET)
        except OSError as error:
            code = error.errno or errno.EIO
    else:
        import ctypes  # noqa: PLC0415 - 2 ms, and Python 3.12 does without

        libc = ctypes.CDLL(None, use_errno=True)
        code = ctypes.get_errno() if libc.setns(descriptor, CLONE_NEWNET) else 0
    if code == errno.EINVAL:
        raise PreflightError(f"cannot enter network namespace {name!r}: it is not a network namespace")
    if code:
        fix = ": run as root" if code == errno.EPERM else ""
        raise PreflightError(f"cannot enter network namespace {name!r}: {os.strerror(code).lower()}{fix}")


def addresses() -> frozenset[Address]:
    """Return every address of this namespace's interfaces."""
    return frozenset((*_ipv4(), *_ipv6()))


def global_families() -> frozenset[Family]:
    """Return the families that have an address besides loopback and link-local."""
    return frozenset(
        Family.of(address) for address in addresses() if not (address.is_loopback or address.is_link_local)
    )


def _ipv4() -> Iterator[IPv4Address]:
    # fib_trie lists routes; an address of ours is a leaf with a local host route of 32 bits below it.
    leaf = ""
    for line in net_lines("fib_trie"):
        words = line.split()
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            yield IPv4Address(leaf)


def _ipv6() -> Iterator[IPv6Address]:
    for line in net_lines("if_inet6"):
        yield IPv6Address(int(line.split()[0], 16))


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold this namespace's lock for the length of a block; PreflightError where another holds it for 5 s.

    A file, because anybody may take an abstract socket; the socket only where no file can be written. Both end with
    their process.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    while (lock := _take("capture")) is None:
        if time.monotonic() >= deadline:
            raise PreflightError(f"cannot change the rules: another meshdns has been at it for {LOCK_WAIT_S:.0f} s")
        time.sleep(LOCK_POLL_S)
    with lock:
        yield


@contextlib.contextmanager
def alone(kind: str) -> Iterator[None]:
    """Be the only one of a kind in this namespace for the length of a block; PreflightError where there is one."""
    lock = _take(kind)
    if lock is None:
        raise PreflightError(f"cannot {kind}: another `meshdns capture {kind}` is at it in this network namespace")
    with lock:
        yield


def about_this(kind: str) -> str:
    """Return the path of a file that says something about this namespace by a lock on it, one for each kind.

    The number of an inode is given to another namespace as soon as this one is gone. But where somebody holds the lock
    it is not gone: whoever does lives in it.
    """
    return f"{LOCKS}/{kind}-{os.stat(OWN).st_ino}"


def about_this_alone(kind: str) -> str | None:
    """Return the path of a file that says something about this namespace and never about another.

    It is named by the namespace's cookie, which no other has until the machine is started again (Linux 5.14), and by
    that start, which /run of a container may outlive. None where the kernel tells no cookie.
    """
    from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET, socket  # noqa: PLC0415 - see rawnetlink.py

    try:
        # Any socket would do. This family is the one that capture cannot do without, should others be forbidden.
        with contextlib.closing(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC)) as any_of_here:
            cookie = any_of_here.getsockopt(SOL_SOCKET, SO_NETNS_COOKIE, COOKIE_BYTES)
        with open(BOOT, encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        return None
    return f"{LOCKS}/{kind}-{int.from_bytes(cookie, sys.byteorder)}-{boot}"


def _take(kind: str) -> contextlib.AbstractContextManager[object] | None:
    try:
        os.makedirs(LOCKS, mode=0o755, exist_ok=True)
        return _take_file(f"{about_this(kind)}.lock")
    except OSError:
        return _take_socket(kind)


def _take_file(path: str) -> contextlib.AbstractContextManager[object] | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        try:
            current = os.stat(path).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            current = False
        if not current:
            return None  # its last holder removed it between our open and our lock
        stack.callback(remove_file, path)
        return stack.pop_all()


def remove_file(path: str) -> None:
    """Remove a file, there or not."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _take_socket(kind: str) -> contextlib.AbstractContextManager[object] | None:
    import socket  # noqa: PLC0415 - see rawnetlink.py

    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(f"\0meshdns-{kind}")
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise PreflightError(f"cannot lock the rules: {error.strerror}") from error
    return lock
