"""The demo's pod: a network namespace with an interface, a default route, a resolv.conf; door: processes, pyroute2."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshdns.init import defaults
from meshdns.init.demo.isolation import bind, cover, let_everybody_read
from meshdns.init.errors import MissingError

POD_ADDRESS: Final = "10.99.0.2"
WORLD_ADDRESS: Final = "10.99.0.1"
PREFIX_LENGTH: Final = 24
UNPRIVILEGED: Final = (
    "setpriv", f"--reuid={defaults.PROXY_UID}", f"--regid={defaults.PROXY_GID}", "--clear-groups",
    "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--",
)  # fmt: skip
"""How a pod's manifest would start the resolver: its own uid, no capability, no way to get one."""
MESHDNS: Final = (sys.executable, "-m", "meshdns.init.cli")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command wrote, standard output and error together, and its exit code."""

    text: str
    exit_code: int


class Pod:
    """Runs commands in the pod. `entries` is the directory that stands for the mounted ConfigMap."""

    def __init__(self, world_addresses: Sequence[str]) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="meshdns-demo-", dir="/run"))
        self.home.chmod(0o755)
        self.entries = self.home / "entries"
        self.entries.mkdir()
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self._join(world_addresses)

    def run(self, *command: str) -> Outcome:
        """Run a command to its end; `meshdns` means this program."""
        done = subprocess.run(
            self._enter(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            check=False, timeout=30,
        )  # fmt: skip
        return Outcome(done.stdout.strip("\n"), done.returncode)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in the background, as uid 1337 without capabilities."""
        log = (self.home / "resolver.log").open("wb")
        with log:
            return subprocess.Popen(self._enter(command, *UNPRIVILEGED), stdout=log, stderr=log)

    def _enter(self, command: Sequence[str], *before: str) -> list[str]:
        program = [*MESHDNS, *command[1:]] if command[0] == "meshdns" else list(command)
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *before, *program]

    def _join(self, world_addresses: Sequence[str]) -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415 - 190 ms and 24 MB that only the demo spends

        _wait_for_namespace(self._holder.pid)
        with IPRoute() as world:
            loopback = world.link_lookup(ifname="lo")[0]
            world.link("set", index=loopback, state="up")
            for address in world_addresses:
                world.addr("add", index=loopback, address=address, prefixlen=32)
            world.link("add", ifname="pod", kind="veth", peer={"ifname": "eth0", "net_ns_fd": self._path})
            outer = world.link_lookup(ifname="pod")[0]
            world.addr("add", index=outer, address=WORLD_ADDRESS, prefixlen=PREFIX_LENGTH)
            world.link("set", index=outer, state="up")
        with IPRoute(netns=self._path) as pod:
            pod.link("set", index=pod.link_lookup(ifname="lo")[0], state="up")
            inner = pod.link_lookup(ifname="eth0")[0]
            pod.addr("add", index=inner, address=POD_ADDRESS, prefixlen=PREFIX_LENGTH)
            pod.link("set", index=inner, state="up")
            pod.route("add", dst="default", gateway=WORLD_ADDRESS)

    @property
    def _path(self) -> str:
        return f"/proc/{self._holder.pid}/ns/net"


def prepare_files(nameserver: str) -> None:
    """Give this mount namespace the files of a pod: its resolv.conf, lookups by DNS alone, a /run of its own."""
    cover(Path("/run"))
    for target, text in (
        (Path("/etc/resolv.conf"), f"nameserver {nameserver}\nsearch default.svc.cluster.local svc.cluster.local\n"),
        (Path("/etc/nsswitch.conf"), "hosts: files dns\n"),
    ):
        if not target.exists() and target.name == "resolv.conf":
            raise MissingError(f"cannot show lookups: there is no {target} to put the demo's own over")
        if target.exists():
            source = Path("/run") / target.name
            source.write_text(text)
            bind(source, target.resolve())
    import meshdns.init  # noqa: PLC0415 - where it stands is what is asked

    let_everybody_read([Path(sys.prefix), Path(sys.base_prefix), *_code_directories(meshdns.init.__path__)])


def _code_directories(paths: Sequence[str]) -> list[Path]:
    return [Path(path).resolve().parent for path in paths]


def _wait_for_namespace(pid: int) -> None:
    ours = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116 - Path.stat would follow it all the same
    for _ in range(200):
        if os.stat(f"/proc/{pid}/ns/net").st_ino != ours:  # noqa: PTH116
            return
        time.sleep(0.01)
    raise MissingError("cannot make the pod's network namespace: unshare --net did not get there in two seconds")
