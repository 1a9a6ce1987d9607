"""`trace` tells live packets in our rule ids, and leaves nothing behind however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from capturing import APP, LISTED, PROXY, UNLISTED, spec
from namespaces import Namespace
from proving import MESHDNS, capture, pod

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.install import install, new_record

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: other users' packets")

WITHIN_S = 10.0


@pytest.fixture
def there() -> Iterator[Namespace]:
    with pod() as made:
        yield made


def _install(there: Namespace, backend: str) -> None:
    made = BACKENDS[backend]()
    there.call(lambda: install(made, new_record(spec(), made, "1", 1)))
    with there.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=PROXY) as beat:
        beat.sendto(b"", ("127.0.0.1", 15053))


@contextlib.contextmanager
def _tracing(
    there: Namespace, *options: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `trace`, from when packets are followed."""
    environment = {**(environment or os.environ), "PYTHONUNBUFFERED": "1"}
    with there.running(MESHDNS, "capture", "trace", *options, environment=environment) as process:
        deadline = time.monotonic() + WITHIN_S
        while "inet meshdns_trace" not in there.ruleset() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process


def _look_up(there: Namespace, uid: int, server: str) -> None:
    with there.socket(socket.AF_INET, socket.SOCK_DGRAM, uid=uid) as client, contextlib.suppress(OSError):
        client.sendto(b"who?", (server, 53))


def _told(there: Namespace, process: subprocess.Popen[bytes], uid: int, server: str, last: str) -> list[str]:
    """Look up until the trace tells the rule `last`; what it told of one packet, without the packet's number."""
    assert process.stdout
    os.set_blocking(process.stdout.fileno(), False)
    told = ""
    deadline = time.monotonic() + WITHIN_S
    while last not in told and time.monotonic() < deadline:
        _look_up(there, uid, server)  # again, for nft may not have been listening yet
        time.sleep(0.2)
        told += (process.stdout.read() or b"").decode()
    assert last in told, told
    packet = next(line for line in told.splitlines() if last in line).split()[0]
    return [line.removeprefix(packet).strip() for line in told.splitlines() if line.startswith(packet)]


@pytest.mark.parametrize("backend", ["nft", "iptables-nft"])
def test_tells_the_rules_that_a_lookup_meets(there: Namespace, backend: str) -> None:
    """A captured lookup is told by who asks whom, the zone, and the rule that redirects it, with its reason."""
    _install(there, backend)
    with _tracing(there) as process:
        lines = _told(there, process, APP, LISTED[0], "nat-dns-4")
    assert lines[0].startswith("udp 10.0.0.2 port ")
    assert f" to {LISTED[0]} port 53, out by eth0" in lines[0]
    assert "zone-dns-4: zone 15053 (this lookup will be redirected)" in lines
    assert "nat-dns-4: redirect 15053 (port 53 of a captured nameserver, and the resolver is alive)" in lines


@pytest.mark.parametrize("backend", ["nft", "iptables-nft"])
def test_tells_why_the_proxy_is_left_alone(there: Namespace, backend: str) -> None:
    """The proxy's own lookup is told by the rule that leaves it alone; `--uid` and `--dst` follow only that."""
    _install(there, backend)
    with _tracing(there, "--uid", str(PROXY), "--dst", LISTED[0]) as process:
        _look_up(there, APP, LISTED[0])
        _look_up(there, PROXY, UNLISTED[0])
        lines = _told(there, process, PROXY, LISTED[0], "nat-proxy-uid")
    assert "nat-proxy-uid: left alone (traffic of the proxy itself)" in lines
    assert not [line for line in lines if "nat-dns" in line]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)])
def test_leaves_nothing_behind(there: Namespace, number: signal.Signals, exit_code: int) -> None:
    """Ended by a signal, it takes its table and its program with it."""
    _install(there, "nft")
    before = there.ruleset()
    with _tracing(there) as process:
        process.send_signal(number)
        assert process.wait(WITHIN_S) == exit_code
    assert there.ruleset() == before


def test_there_is_one_trace_at_a_time(there: Namespace) -> None:
    """A second one would take the first one's table away at its end: exit 3, and the first goes on."""
    _install(there, "nft")
    with _tracing(there) as process:
        done = capture(there, "trace", check=False)
        told = "meshdns: cannot trace: another `meshdns capture trace` is at it in this network namespace\n"
        assert (done.returncode, done.stderr) == (3, told)
        _look_up(there, PROXY, LISTED[0])
        assert _told(there, process, PROXY, LISTED[0], "nat-proxy-uid")


def test_ends_when_nobody_reads(there: Namespace) -> None:
    """With its reader gone, as with `| head`, it ends at the next packet and takes its table with it."""
    _install(there, "nft")
    before = there.ruleset()
    with _tracing(there) as process:
        assert process.stdout
        process.stdout.close()
        deadline = time.monotonic() + WITHIN_S
        while process.poll() is None and time.monotonic() < deadline:
            _look_up(there, APP, LISTED[0])
            time.sleep(0.05)
        assert process.returncode == 0
    assert there.ruleset() == before


def test_what_a_killed_trace_leaves_uninstall_removes(there: Namespace) -> None:
    """After SIGKILL the second table stays, harmless, until `uninstall` or the next `trace`."""
    _install(there, "nft")
    with _tracing(there) as process:
        process.kill()
        process.wait()
    assert "inet meshdns_trace" in there.ruleset()
    with _tracing(there) as process:
        _told(there, process, PROXY, LISTED[0], "nat-proxy-uid")
        process.terminate()
        process.wait()
    assert "inet meshdns_trace" not in there.ruleset()
    with _tracing(there) as process:
        process.kill()
        process.wait()
    capture(there, "uninstall")
    assert there.ruleset() == ""


FAILING = """#!/bin/sh
case "$*" in *%s*) echo "out of order" >&2; exit 7 ;; esac
PATH=%s
exec nft "$@"
"""


def _failing(path: Path, at: str) -> dict[str, str]:
    """Return the environment of whoever gets an nft that fails at some of its commands."""
    program = path / "nft"
    program.write_text(FAILING % (at, os.environ["PATH"]))
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}


def test_it_says_that_nft_has_ended(there: Namespace, tmp_path: Path) -> None:
    """Where nft ends by itself, exit 4 and what it said: a trace that tells nothing must not look like no packets."""
    _install(there, "nft")
    before = there.ruleset()
    done = there.run(MESHDNS, "capture", "trace", check=False, environment=_failing(tmp_path, "monitor"))
    assert (done.returncode, done.stdout) == (4, "")
    assert "it ended by itself: exit code 7: out of order" in done.stderr
    assert there.ruleset() == before
    with _tracing(there) as process:
        deadline = time.monotonic() + WITHIN_S
        while not (children := _children(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(children[0], signal.SIGKILL)
        assert process.wait(WITHIN_S) == 4
        assert process.stdout
        assert b"it ended by itself: exit code -9\n" in process.stdout.read()
    assert there.ruleset() == before


def _children(pid: int) -> list[int]:
    """Return the programs that a process follows: those that monitor."""
    found = []
    for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # another one, which has just ended
            if b"monitor" in Path(f"/proc/{number}/cmdline").read_bytes():
                found.append(int(number))
    return found


def test_a_table_that_stays_is_told(there: Namespace, tmp_path: Path) -> None:
    """Where the second table cannot be removed, neither `trace` nor `uninstall` ends as if it were."""
    _install(there, "nft")
    with _tracing(there, environment=_failing(tmp_path, "delete*meshdns_trace")) as process:
        process.terminate()
        assert process.wait(WITHIN_S) == 4
    done = there.run(
        MESHDNS, "capture", "uninstall", check=False, environment=_failing(tmp_path, "delete*meshdns_trace")
    )
    assert (done.returncode, "removed" in done.stdout) == (4, False)
    assert "cannot remove the table inet meshdns_trace, which follows packets: nft says: out of order" in done.stderr
    assert "inet meshdns_trace" in there.ruleset()
    capture(there, "uninstall")
    assert there.ruleset() == ""


def test_legacy_tables_cannot_be_traced(there: Namespace) -> None:
    """What nf_tables does not hold it cannot trace: exit 3, and what to use instead."""
    _install(there, "iptables-legacy")
    done = capture(there, "trace", "--backend", "iptables-legacy", check=False)
    assert (done.returncode, "use `explain`" in done.stderr) == (3, True)


def test_nothing_installed(there: Namespace) -> None:
    """Where nothing is installed there is nothing to meet: exit 3."""
    assert capture(there, "trace", check=False).returncode == 3
