"""A virtual machine for tests: a Debian root file system under a booted systemd, and the world it is connected to.

    with machine(root) as vm:
        vm.run("meshdns", "vm", "onboard")
        vm.reboot()
        assert vm.run("getent", "ahostsv4", "auto.internal").stdout

systemd-nspawn boots it in a network namespace of its own; a veth leads to another one with a nameserver and two web
servers. Its network is set up from the inside by systemd-networkd, and its /etc/resolv.conf is systemd-resolved's stub,
as on a machine in a cloud. A restart gives it a new kernel state: another network namespace.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from namespaces import Namespace, namespace, veth

from meshdns.init.demo import world

T = TypeVar("T")

ADDRESS: Final = "10.98.0.2"
GATEWAY: Final = ("10.98.0.1", "fd98::1")
NAMESERVER: Final = "10.98.0.53"
WEB: Final = {"198.51.100.0": "page of 198.51.100.0", "198.51.100.2": "page of 198.51.100.2"}
NETWORK: Final = f"""[Match]
Name=host0
[Network]
DNS={NAMESERVER}
LinkLocalAddressing=no
IPv6AcceptRA=no
[Address]
Address={ADDRESS}/24
[Address]
Address=fd98::2/64
DuplicateAddressDetection=none
[Route]
Gateway={GATEWAY[0]}
[Route]
Gateway={GATEWAY[1]}
"""
"""The settings of systemd-networkd in the machine."""
PATH: Final = "/opt/meshdns/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_S: Final = 60.0
STOP_S: Final = 60.0
POWER_OFF: Final = "SIGRTMIN+4"
"""systemd(1): to the manager, the same as `systemctl poweroff`."""

ALONE: Final = (
    "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe",
)  # fmt: skip
"""Options of systemd-nspawn by which this machine lends nothing and needs no systemd itself."""
CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")
_IN_GROUPS: Final = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'

_numbers = itertools.count(1)


@dataclass(slots=True)
class Machine:
    """A machine that runs. `root` is its file system, `outside` the namespace of the world."""

    root: Path
    outside: Namespace
    bound: Sequence[str]
    leader: int = 0
    """Its process 1, as this machine numbers it."""
    inside: Namespace | None = None
    """Its network namespace, another one after each restart."""
    _life: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _nspawn: subprocess.Popen[bytes] | None = None

    def run(
        self,
        *command: str,
        check: bool = True,
        stdin: str = "",
        timeout_s: float = 120,
        uid: int = 0,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in there to its end; with `check` a failure shows what it wrote."""
        done = subprocess.run(
            self._enter(command, uid), input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False,
            env=_environment(environment),
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def shell(self, script: str, *, check: bool = True) -> str:
        """Run a script in there; returns what it printed."""
        return self.run("sh", "-euc", script, check=check).stdout

    @contextlib.contextmanager
    def started(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Start a program in there, its output and errors a pipe; it is killed at the end (see `kill`)."""
        with subprocess.Popen(
            self._enter(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=_environment({"PYTHONUNBUFFERED": "1"}),
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                kill(process)

    def page(self, host: str) -> str:
        """Return what curl gets from a host, empty for nothing."""
        return self.run("curl", "-sS4", "--max-time", "10", host, check=False).stdout.strip()

    def addresses(self, host: str) -> set[str]:
        """Return the IPv4 addresses that applications find for a name."""
        found = self.run("getent", "ahostsv4", host, check=False).stdout
        return {line.split()[0] for line in found.splitlines()}

    def start(self) -> None:
        """Boot it, and wait until its manager has nothing more to start."""
        if self._nspawn:
            raise RuntimeError("it runs already")
        self.inside = inside = self._life.enter_context(namespace())
        veth(inside, "host0", (), self.outside, "vm0", [f"{GATEWAY[0]}/24", f"{GATEWAY[1]}/64"])
        name = f"meshdns-{os.getpid()}-{next(_numbers)}"
        self._life.callback(lambda: shutil.rmtree(f"/run/systemd/nspawn/propagate/{name}", ignore_errors=True))
        console = self._life.enter_context((self.root.parent / "console").open("ab"))
        groups = self._life.enter_context(_control_groups(name))
        command = ["sh", "-euc", _IN_GROUPS, "sh", *groups, "--", "systemd-nspawn", *ALONE, *self.bound]
        place = [f"--directory={self.root}", f"--machine={name}", f"--network-namespace-path={inside.path}"]
        self._nspawn = subprocess.Popen(
            [*command, *place, f"--kill-signal={POWER_OFF}", "--capability=all", "--boot"],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
        )
        self.leader = until(self._first_process, "process 1 of the machine", within_s=BOOT_S)
        until(self._is_up, "a machine that is up", within_s=BOOT_S)

    def stop(self) -> None:
        """Shut it down as an administrator would."""
        assert self._nspawn
        self._nspawn.send_signal(signal.SIGTERM)
        self._nspawn.wait(STOP_S)
        self._forget()

    def power_cut(self) -> None:
        """End it at once: nothing of it is told."""
        assert self._nspawn
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.leader, signal.SIGKILL)
        try:
            self._nspawn.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._forget()

    def reboot(self) -> None:
        """Shut it down and boot it again."""
        self.stop()
        self.start()

    def end(self) -> None:
        """End it if it runs."""
        if self._nspawn:
            self.power_cut()

    def _forget(self) -> None:
        self._nspawn = None
        self._life.close()
        # With its namespace the interface goes, but not at once.
        until(lambda: self.outside.run("ip", "link", "show", "vm0", check=False).returncode != 0, "no interface")

    def _first_process(self) -> int:
        """Return nspawn's child that is process 1 of another namespace; another child makes it, and ends."""
        assert self._nspawn
        if self._nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended:\n{(self.root.parent / 'console').read_text()}")
        return next((child for child in _children(self._nspawn.pid) if _is_first(child)), 0)

    def _is_up(self) -> bool:
        # A failed unit (`degraded`) is for the tests to find.
        state = self.run("systemctl", "is-system-running", "--wait", check=False, timeout_s=BOOT_S).stdout.strip()
        return state in {"running", "degraded"}

    def _enter(self, command: Sequence[str], uid: int = 0) -> list[str]:
        owner = [f"--setgid={uid}", f"--setuid={uid}"] if uid else []
        return ["nsenter", "--all", f"--target={self.leader}", *owner, "--", *command]


@contextlib.contextmanager
def machine(root: Path, *bound: str) -> Iterator[Machine]:
    """Boot the file system at `root`, in its world; `bound` are options like `--bind-ro=/a:/b`."""
    with namespace() as outside:
        for address in (NAMESERVER, *WEB):
            outside.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        outside.call(lambda: world.start(NAMESERVER, WEB))
        vm = Machine(root, outside, bound)
        try:
            vm.start()
            yield vm
        finally:
            vm.end()


@contextlib.contextmanager
def _control_groups(name: str) -> Iterator[list[str]]:
    """Make control groups below our own, for machines that run at once; they are gone at the end.

    One in each hierarchy that a systemd arranges: its own (v1) and the unified one (v2), where there are both.
    """
    unified = CONTROL_GROUPS / "unified"
    mounted = {"name=systemd": CONTROL_GROUPS / "systemd", "": unified if unified.is_dir() else CONTROL_GROUPS}
    made = []
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers in mounted:
            made.append(mounted[controllers] / place.lstrip("/") / name)
            made[-1].mkdir()
    try:
        yield [str(group) for group in made]
    finally:
        for group in made:
            for below, _, _ in os.walk(group, topdown=False):
                # Its last processes end on their own time.
                until(functools.partial(_is_removed, Path(below)), f"empty control group {below}")


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return not group.exists()
    return True


def until(true: Callable[[], T], what: str, within_s: float = 20.0) -> T:
    """Ask until the answer is true and return it; AssertionError when it stays false for that long."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {what} within {within_s:g} s")


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a program that `started` started: nsenter(1) itself waits outside for it."""
    for child in _children(process.pid) if process.poll() is None else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    process.wait(STOP_S)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def _is_first(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    return f"NSpid:\t{pid}\t1\n" in status


def _environment(more: dict[str, str] | None) -> dict[str, str]:
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", **(more or {})}
