"""Throw-away network namespaces for tests: real kernels, nothing left behind.

A namespace here has no name and no file. One descriptor keeps it, so it goes away with the test process whatever kills
that. Its `path` is good for `--netns`, for `nsenter --net=` and for `ip link set netns`. Works as root and inside a
user namespace (`unshare -Urn`), where only uid 0 exists.

    with namespace() as pod, namespace() as node:
        veth(pod, "eth0", ["10.0.0.2/24", "fd00::2/64"], node, "eth0", ["10.0.0.1/24", "fd00::1/64"])
        pod.run("ip", "route", "add", "default", "via", "10.0.0.1")
        print(pod.run("nft", "list", "ruleset").stdout)    # a program, to its end
        with node.running(sys.executable, "server.py", uid=1337):    # a program, in the background
            # A socket of this process that lives in the pod and belongs to uid 1000.
            with pod.socket(AF_INET, SOCK_DGRAM, uid=1000) as client:
                client.sendto(b"x", ("10.0.0.1", 53))
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket as sockets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
ENTRY_TIMEOUT_S = 10
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace with loopback up, kept by an open descriptor of this process."""

    descriptor: int

    @property
    def path(self) -> str:
        """A path that names the namespace for as long as this process keeps it, for other processes too."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def run(
        self,
        *arguments: str,
        uid: int = 0,
        gid: int | None = None,
        stdin: str = "",
        check: bool = True,
        timeout_s: float = 30,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; with `check` a failure shows what the program wrote."""
        done = subprocess.run(
            self._command(arguments, uid, gid),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def spawn(
        self, *arguments: str, uid: int = 0, gid: int | None = None, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in the background; its pid is the program's own. The caller ends it (see `running`).

        What it writes stands in its `stdout`, a pipe: a program that writes more than 64 KiB unread will block.
        """
        process = subprocess.Popen(
            self._command(arguments, uid, gid),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        self._wait_for_entry(process)
        return process

    def _wait_for_entry(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the process is in here: until then its pid names the namespace that the tests run in."""
        here = os.fstat(self.descriptor).st_ino
        deadline = time.monotonic() + ENTRY_TIMEOUT_S
        while process.poll() is None:
            with contextlib.suppress(OSError):  # it has just ended
                if Path(f"/proc/{process.pid}/ns/net").stat().st_ino == here:
                    return
            if time.monotonic() > deadline:
                process.kill()
                raise AssertionError(f"process {process.pid} is not in its namespace after {ENTRY_TIMEOUT_S} s")
            time.sleep(0.001)

    @contextlib.contextmanager
    def running(
        self, *arguments: str, uid: int = 0, gid: int | None = None, environment: dict[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Keep a program running for the length of a block; it is killed at the end, stopped or not."""
        with self.spawn(*arguments, uid=uid, gid=gid, environment=environment) as process:
            try:
                yield process
            finally:
                process.kill()

    def call(self, function: Callable[[], T], *, uid: int = 0, gid: int | None = None) -> T:
        """Call a Python function inside, in a thread of this process; its result or exception comes back.

        Files and sockets that it opens belong to `uid` and `gid` as far as the kernel's owner matches look (fsuid); the
        capabilities stay those of the test. Use `run` where a program must really lack privilege.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def enter_and_call() -> None:
            try:
                _check(_libc.setns(self.descriptor, CLONE_NEWNET), "setns")
                _libc.setfsgid(uid if gid is None else gid)
                _libc.setfsuid(uid)
                results.append(function())
            except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
                errors.append(error)

        thread = threading.Thread(target=enter_and_call)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def socket(
        self, family: int, kind: int, *, uid: int = 0, gid: int | None = None, timeout_s: float = 2
    ) -> sockets.socket:
        """Return a socket of this process that lives in there and belongs to `uid` and `gid` (default: `uid`)."""
        made = self.call(lambda: sockets.socket(family, kind), uid=uid, gid=gid)
        made.settimeout(timeout_s)
        return made

    def ruleset(self) -> str:
        """Return all nft rules, without counters."""
        return self.run("nft", "-s", "list", "ruleset").stdout

    def _command(self, arguments: Sequence[str], uid: int, gid: int | None) -> list[str]:
        owner = [f"--setgid={uid if gid is None else gid}", f"--setuid={uid}"] if uid or gid else []
        return ["nsenter", f"--net={self.path}", *owner, "--", *arguments]


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a network namespace with loopback up; it is gone at the end of the block."""
    made = Namespace(_new_descriptor())
    try:
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        os.close(made.descriptor)


def veth(
    left: Namespace,
    left_name: str,
    left_addresses: Sequence[str],
    right: Namespace,
    right_name: str,
    right_addresses: Sequence[str],
) -> None:
    """Join two namespaces by a pair of interfaces, up and with their addresses (`10.0.0.1/24`, `fd00::1/64`)."""
    left.run("ip", "link", "add", left_name, "type", "veth", "peer", "name", right_name, "netns", right.path)
    for side, name, addresses in ((left, left_name, left_addresses), (right, right_name, right_addresses)):
        # Or the link-local address, and its route, come seconds later (RFC 4862, section 5.4).
        side.run("sysctl", "-qw", f"net.ipv6.conf.{name}.accept_dad=0")
        side.run("ip", "link", "set", name, "up")
        for address in addresses:
            side.run("ip", "address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))


def _new_descriptor() -> int:
    """Make a namespace in a thread of its own, so that this process's other threads stay where they are."""
    descriptors: list[int] = []
    errors: list[BaseException] = []

    def unshare() -> None:
        try:
            _check(_libc.unshare(CLONE_NEWNET), "unshare")
            descriptors.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=unshare)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return descriptors[0]


def _check(result: int, call: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
