"""What keeps a machine from being onboarded, found before anything is changed. Each problem is a line with its fix."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import click

from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.prove.doctor import Finding, Level, examine
from meshdns.capture.prove.gather import gather
from meshdns.capture.system.listeners import Listener
from meshdns.capture.system.outlive import BOOTED
from meshdns.init import defaults
from meshdns.init.capture_spec import to_spec
from meshdns.init.commands.capture import install
from meshdns.init.commands.resolver import run
from meshdns.init.errors import MissingError
from meshdns.init.vm import layout
from meshdns.init.vm.account import LAST_SYSTEM_ID, uid_of
from meshdns.init.vm.settings import Values, VmSettings, as_file, asks_behind_the_stub, parsed
from meshdns.init.vm.systemd import is_active

DNS_PORT: Final = 53
LOCALHOST: Final = IPv4Address("127.0.0.1")
UNSEEN: Final = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - named, not used
"""What units that are protected from everybody's files do not see (systemd.exec(5): ProtectHome, PrivateTmp)."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Problems, which keep a machine from being onboarded, warnings, which do not, and what this user may not see."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    unseen: tuple[str, ...]


def check_machine() -> None:
    """Check what everything else needs; MissingError."""
    if not BOOTED.is_dir():
        raise MissingError("cannot onboard: systemd does not run here: in a container use `meshdns inject`")
    resolv_conf = Path(defaults.RESOLV_CONF)
    if resolv_conf.is_symlink() and not resolv_conf.exists():
        raise MissingError(
            f"cannot onboard: {resolv_conf} is a link to {resolv_conf.readlink()}, which does not exist: start what"
            " writes that file, or put a file with nameservers in the link's place"
        )


def preflight(settings: VmSettings) -> Findings:
    """Look at this machine with these settings in mind; click's errors where the commands do not take them."""
    with tempfile.TemporaryDirectory() as directory:
        resolver = _understood(run, settings.resolver, Path(directory) / layout.RESOLVER_SETTINGS.name)
        capture = _understood(install, settings.capture, Path(directory) / layout.CAPTURE_SETTINGS.name)
    spec, warnings = to_spec(capture)
    facts = gather(spec)
    besides = {"capability", "dns-cache"}  # a dry run needs no privilege, and caches are flushed
    if asks_behind_the_stub(settings):
        besides.add("dns-loop")  # systemd-resolved is asked by nobody whom we ask
    findings = [one for one in examine(facts, spec) if one.id not in besides]
    problems = (
        *_account(),
        *_program(resolver["manifests"]),
        *_manifests(resolver["manifests"]),
        *_name_server(facts.listeners, settings),
        *_ports(facts.listeners, spec, resolver["admin"].port, findings),
        *_told(findings, Level.ERROR),
    )
    hidden = (f"what is at {path}: it may not be read" for path in resolver["manifests"] if _is_hidden(path))
    unseen = (*facts.unseen, *hidden)
    return Findings(problems, (*warnings, *_told(findings, Level.WARNING)), unseen)


def _understood(command: click.Command, values: Values, file: Path) -> dict[str, Any]:
    file.write_bytes(as_file(values, ""))
    return parsed(command, file)


def _told(findings: Iterable[Finding], level: Level) -> Iterator[str]:
    for finding in findings:
        if finding.diagnosis.level is level:
            yield f"{finding.id}: {finding.diagnosis.cause}: {finding.diagnosis.fix}"


def _account() -> Iterator[str]:
    uid = uid_of(layout.ACCOUNT)
    if uid is not None and not 0 < uid <= LAST_SYSTEM_ID:
        yield f"the user {layout.ACCOUNT} (uid {uid}) is no system user: it may be a person's: rename or remove it"


def _program(manifests: Iterable[Path]) -> Iterator[str]:
    for path in (Path(sys.prefix), Path(__file__), *(each.absolute() for each in manifests)):
        if any(path.is_relative_to(unseen) for unseen in UNSEEN):
            yield f"the units cannot see {path}: put it elsewhere, such as under /opt or {layout.ETC}"


def _manifests(manifests: Iterable[Path]) -> Iterator[str]:
    for path in manifests:
        if path != layout.ENTRIES and not _is_hidden(path) and not path.exists():
            yield f"there is nothing at {path}, where manifests should be: make it, or name another by --manifests"


def _is_hidden(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def _name_server(listeners: Iterable[Listener], settings: VmSettings) -> Iterator[str]:
    if "dns-servers" in settings.capture and not asks_behind_the_stub(settings):
        return  # whom to capture has been thought of
    for uid in sorted({one.uid for one in listeners if one.port == DNS_PORT and one.hears(LOCALHOST)}):
        yield (
            f"another name server (of uid {uid}) has port {DNS_PORT} of {LOCALHOST}, and its lookups may be captured:"
            " stop it, or say in --capture-config which servers are to be captured (dns-servers)"
        )


def _ports(listeners: Iterable[Listener], spec: CaptureSpec, admin: int, findings: Iterable[Finding]) -> Iterator[str]:
    """Yield whose ports are taken by root, whom doctor takes for systemd, which hands sockets over."""
    if is_active(layout.RESOLVER):
        return
    dns = {("udp", spec.dns_port), ("tcp", spec.dns_port)}
    taken = {
        (one.protocol, one.port): one.uid
        for one in listeners
        if one.port == admin or (one.uid == 0 and (one.protocol, one.port) in {*dns, ("tcp", spec.outbound_port)})
    }
    told = " ".join(finding.diagnosis.cause for finding in findings if finding.id == "port-taken")
    for (protocol, port), uid in taken.items():
        if f"{protocol} port {port}," not in told:
            yield f"{protocol} port {port} belongs to uid {uid}: end that program"
