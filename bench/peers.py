"""The servers that are compared, each with one worker: how its names and upstream are written down, how it is started.

What the others are given is what their manuals advise for the job; nothing is turned on or off to make them slower.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Protocol

from bench import admin, names
from bench.load import ADDRESS, first_answer
from bench.process import NotMeasuredError, Process, next_port, running

START_S: Final = 120.0
"""Meshdns reads 100,000 entries in a quarter of this."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be served: names with an address each, and who is asked for the rest."""

    hosts: Sequence[str] = ()
    upstream: int | None = None
    leased: bool = True


class Peer(Protocol):
    """One server program."""

    name: str
    program: ClassVar[str]
    version: ClassVar[Sequence[str]]

    def command(self, job: Job, home: Path, port: int) -> list[str]:
        """Write configuration below `home` and return the command that serves the job on `port`."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that has given its first answer."""

    process: Process
    port: int
    home: Path


@dataclass(slots=True)
class Meshdns:
    """The resolver with its defaults: metrics, relay and heartbeat on."""

    options: Sequence[str] = ()
    name: str = "meshdns"
    admin: int = field(default_factory=next_port)
    program: ClassVar[str] = "meshdns"
    version: ClassVar[Sequence[str]] = ("--version",)

    def command(self, job: Job, home: Path, port: int) -> list[str]:
        write_manifests(job, home)
        (home / "resolv.conf").write_text("nameserver 127.0.0.99\n")
        command = [_found(self.program), "resolver", "run", "--listen", f"{ADDRESS}:{port}"]
        command += ["--admin", f"{ADDRESS}:{self.admin}", "--relay-listen", f"{ADDRESS}:{next_port()}"]
        command += ["--proxy-uid", str(os.getuid()), "--resolv-conf", str(home / "resolv.conf")]
        if job.hosts:
            command += ["--manifests", str(home / "manifests")]
        if job.upstream is not None:
            command += ["--upstream", f"{ADDRESS}:{job.upstream}"]
        return [*command, *self.options]


def write_manifests(job: Job, home: Path, note: str = "") -> None:
    """Write the job's names as ServiceEntries; another `note` changes every document and no answer."""
    directory = home / "manifests"
    directory.mkdir(exist_ok=True)
    for number, text in enumerate(names.service_entries(job.hosts, leased=job.leased, note=note)):
        (directory / f"{number:04}.yaml").write_text(text)


@dataclass(slots=True)
class Dnsmasq:
    """dnsmasq with a hosts file."""

    name: str = "dnsmasq"
    program: ClassVar[str] = "dnsmasq"
    version: ClassVar[Sequence[str]] = ("--version",)

    def command(self, job: Job, home: Path, port: int) -> list[str]:
        (home / "hosts").write_text(names.hosts_file(job.hosts))
        command = [_found(self.program), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]
        command += [f"--port={port}", f"--listen-address={ADDRESS}", "--bind-interfaces", "--pid-file=", "--user=root"]
        command += [f"--addn-hosts={home / 'hosts'}", "--local-ttl=30"]
        return command if job.upstream is None else [*command, f"--server={ADDRESS}#{job.upstream}"]


@dataclass(slots=True)
class Nsd:
    """NSD with a zone file. It never forwards."""

    name: str = "NSD"
    addresses_each: int = 1
    program: ClassVar[str] = "nsd"
    version: ClassVar[Sequence[str]] = ("-v",)

    def command(self, job: Job, home: Path, port: int) -> list[str]:
        (home / "zone").write_text(names.zone_file(job.hosts, self.addresses_each))
        (home / "nsd.conf").write_text(
            f"server:\n  ip-address: {ADDRESS}@{port}\n  server-count: 1\n  rrl-ratelimit: 0\n"
            f'  username: ""\n  chroot: ""\n  database: ""\n  zonesdir: "{home}"\n  xfrdir: "{home}"\n'
            f'  pidfile: "{home}/pid"\n  xfrdfile: "{home}/xfrd"\n  zonelistfile: "{home}/zonelist"\n'
            f"remote-control:\n  control-enable: no\nzone:\n  name: {names.ZONE}\n  zonefile: zone\n"
        )
        return [_found(self.program), "-d", "-c", str(home / "nsd.conf")]


@dataclass(slots=True)
class Unbound:
    """Unbound with local data, and forwarding what it has not."""

    name: str = "Unbound"
    program: ClassVar[str] = "unbound"
    version: ClassVar[Sequence[str]] = ("-V",)

    def command(self, job: Job, home: Path, port: int) -> list[str]:
        data = [f'local-data: "{name}. 30 A {names.address(number)}"' for number, name in enumerate(job.hosts)]
        zone = [f'local-zone: "{names.ZONE}." static'] if job.hosts else [f'domain-insecure: "{names.ZONE}"']
        fixed = [
            f"interface: {ADDRESS}@{port}", "do-daemonize: no", 'chroot: ""', 'username: ""', 'pidfile: ""',
            f'directory: "{home}"', "use-syslog: no", "verbosity: 0", "num-threads: 1",
            'module-config: "iterator"', "do-not-query-localhost: no",
        ]  # fmt: skip
        text = "server:\n" + "".join(f"  {line}\n" for line in (*fixed, *zone, *data))
        if job.upstream is not None:
            text += f"forward-zone:\n  name: .\n  forward-addr: {ADDRESS}@{job.upstream}\n"
        (home / "unbound.conf").write_text(text)
        return [_found(self.program), "-d", "-c", str(home / "unbound.conf")]


@dataclass(slots=True)
class CoreDns:
    """CoreDNS with its hosts plugin, or with forward; its metrics on as ours are."""

    name: str = "CoreDNS"
    program: ClassVar[str] = "coredns"
    version: ClassVar[Sequence[str]] = ("-version",)

    def command(self, job: Job, home: Path, port: int) -> list[str]:
        (home / "hosts").write_text(names.hosts_file(job.hosts))
        serve = f"hosts {home}/hosts" if job.upstream is None else f"forward . {ADDRESS}:{job.upstream}"
        metrics = f"prometheus {ADDRESS}:{next_port()}"
        (home / "Corefile").write_text(f".:{port} {{\n  bind {ADDRESS}\n  {metrics}\n  {serve}\n}}\n")
        return [_found(self.program), "-conf", str(home / "Corefile")]


@dataclass(slots=True)
class Floor:
    """The system calls of our own UDP loop around a canned answer (see `bench.floor`)."""

    edns: bool
    name: str = "floor"
    program: ClassVar[str] = sys.executable
    version: ClassVar[Sequence[str]] = ("--version",)

    def command(self, job: Job, home: Path, port: int) -> list[str]:
        question = names.query(job.hosts[0], edns=self.edns).hex()
        (home / "question").write_text(question)
        return [sys.executable, "-m", "bench.floor", str(port), question]


def program_of(peer: Peer) -> str | None:
    """Return where a peer's program is, or None."""
    return shutil.which(peer.program)


@contextlib.contextmanager
def serving(peer: Peer, job: Job, home: Path) -> Iterator[Serving]:
    """Run a server for the length of a block, from its first answer on; `home` becomes its directory."""
    port = next_port()
    home.mkdir(parents=True, exist_ok=True)
    name = job.hosts[-1] if job.hosts else f"first.{names.ZONE}"
    with running(peer.command(job, home, port), home / "log") as process:
        first_answer(port, names.query(name, edns=False), process, START_S)
        if isinstance(peer, Meshdns):  # until its names are loaded, its upstream answered
            admin.ready(peer.admin)
        yield Serving(process, port, home)


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise NotMeasuredError(f"{program} is not there")
    return path
