"""A resolver's beginning and end, and what it says when the machine around it is not what it was."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fakes import FakeUpstream, answering
from ports import free_port
from resolving import ADDRESS_AND_AUTO, MESHDNS, Running, running

from meshdns.resolver.errors import PreflightError
from meshdns.resolver.serve.batch import SLOTS
from meshdns.resolver.serve.datagram import PACKET_BYTES
from meshdns.resolver.serve.listeners import open_listeners

WITHIN_S = 20.0
FEW_FILES = 100


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    directory = tmp_path / "entries"
    directory.mkdir()
    (directory / "a.yaml").write_text(ADDRESS_AND_AUTO)
    return directory


def blocked(pid: int) -> int:
    """Return the signals that a process holds back, as bits (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("SigBlk:")).split()[1], 16)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_during_the_start_is_acted_on_later(number: signal.Signals, entries: Path, tmp_path: Path) -> None:
    """What would end a process without a handler is held back until there is one, and then comes through."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.99\n")
    command = [
        *(*MESHDNS, "resolver", "run", "--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}"),
        *("--no-relay", "--no-heartbeat", "--resolv-conf", str(tmp_path / "resolv.conf")),
        *("--manifests", str(entries)),
    ]
    log = tmp_path / "log"
    with log.open("wb") as output, subprocess.Popen(command, stderr=output) as process:
        try:
            wait_until(lambda: bool(blocked(process.pid) & 1 << number - 1))
            process.send_signal(number)
            told = "generation 1" if number is signal.SIGHUP else "the cache is empty"
            wait_until(lambda: told in log.read_text())
            wait_until(lambda: "INFO meshdns.resolver: ready" in log.read_text())
            wait_until(lambda: not blocked(process.pid))  # the C library blocks all while it makes a thread
        finally:
            process.kill()


def batches(pid: int) -> int:
    """Return from how many sockets a process reads many packets at once: for each it maps so much shared memory."""
    size = SLOTS * (PACKET_BYTES + 1)
    shared = [line.split()[0] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/dev/zero" in line]
    ranges = [[int(end, 16) for end in found.split("-")] for found in shared]
    return sum((end - start) // size for start, end in ranges)


def test_packets_are_read_many_at_once_after_the_first_answers(entries: Path, tmp_path: Path) -> None:
    """Each listener has room for as many as wait, soon after the first load; one whose queries are logged has none."""
    two = ("--listen", f"127.0.0.1:{free_port()}")
    with running(entries, tmp_path / "plain", *two) as one:
        wait_until(lambda: batches(one.process.pid) == 2)
    with running(entries, tmp_path / "logged", *two, "--query-log", str(tmp_path / "queries")) as one:
        wait_until(lambda: "_ctypes" in Path(f"/proc/{one.process.pid}/maps").read_text())
        assert batches(one.process.pid) == 0


BEATING = ("--heartbeat", "--proxy-uid", str(os.getuid()))
TELLING = "import signal; print(*sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))); raise SystemExit"


@pytest.mark.parametrize(
    ("arguments", "held"),
    [(("run",), [signal.SIGHUP, signal.SIGUSR1]), (("query", "auto.internal"), []), (("check", "run"), [])],
)
def test_signals_are_held_back_before_anything_is_imported(
    arguments: Sequence[str], held: Sequence[signal.Signals], tmp_path: Path
) -> None:
    """Most of a start is importing. What stands in the place of click, the first library, says which are held back."""
    (tmp_path / "click.py").write_text(TELLING)
    command = [*MESHDNS, "resolver", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == [str(int(each)) for each in held]


@pytest.mark.parametrize(("second", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_end(second: signal.Signals, code: int, entries: Path, tmp_path: Path) -> None:
    """SIGTERM answers on for a minute here, until nothing is redirected any more; who does not wait says so again."""
    with running(entries, tmp_path / "home", *BEATING, "--heartbeat-timeout", "60") as one:
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "ending: lookups may still be sent here for 61 s" in one.log.read_text())
        assert one.addresses("auto.internal") == ["240.240.0.1"]
        one.process.send_signal(second)
        assert one.process.wait(WITHIN_S) == code


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((*BEATING, "--relay"), "lookups may still be sent here for 4 s; then connections have up to 25 s to finish"),
        (BEATING, "lookups may still be sent here for 4 s"),
        (("--relay",), "connections have up to 25 s to finish"),
        ((), "at once"),
    ],
)
def test_an_end_says_what_it_waits_for(options: Sequence[str], said: str, entries: Path, tmp_path: Path) -> None:
    """By the heartbeat's timeout the kernel still sends lookups; connections are those through the relay."""
    relay_listen = ("--relay-listen", f"127.0.0.1:{free_port()}")
    with running(entries, tmp_path / "home", *options, *relay_listen) as one:
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: f"INFO meshdns.resolver: ending: {said}\n" in one.log.read_text())


def test_nobody_to_forward_to_is_told(entries: Path, tmp_path: Path) -> None:
    """Without an upstream a resolver never becomes ready, and the log says why."""
    port = free_port()
    command = [
        *(*MESHDNS, "resolver", "run", "--manifests", str(entries), "--listen", f"127.0.0.1:{port}"),
        *("--admin", f"127.0.0.1:{free_port()}", "--upstream", f"127.0.0.1:{port}", "--no-relay", "--no-heartbeat"),
    ]
    log = tmp_path / "log"
    with log.open("wb") as output, subprocess.Popen(command, stderr=output) as process:
        try:
            wait_until(lambda: "generation 1" in log.read_text())
        finally:
            process.kill()
    told = "WARNING meshdns.resolver: there is nobody to forward to: other names get SERVFAIL"
    assert log.read_text().count(told) == 1
    assert "INFO meshdns.resolver: ready" not in log.read_text()


def removed(one: Running, home: Path) -> int:
    return one.log.read_text().count(f"cannot read {home}/resolv.conf: No such file or directory: what it said last")


def test_a_resolv_conf_that_is_gone_is_told_once(entries: Path, tmp_path: Path) -> None:
    """Its nameservers stay in force; when it comes back and goes again, that is told again."""
    home = tmp_path / "home"
    with running(entries, home) as one:
        (home / "resolv.conf").unlink()
        wait_until(lambda: removed(one, home) == 1)
        assert '"127.0.0.99:53"' in one.get("/metrics")[1]
        (home / "resolv.conf").write_text("nameserver 127.0.0.98\n")
        wait_until(lambda: '"127.0.0.98:53"' in one.get("/metrics")[1])
        (home / "resolv.conf").unlink()
        wait_until(lambda: removed(one, home) == 2)


def test_a_passed_socket_that_nobody_listens_for_is_named() -> None:
    """A descriptor of another address than those of --listen is refused with its address, before anything is opened."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        port = udp.getsockname()[1]
        passed = {(int(socket.SOCK_DGRAM), "127.0.0.1", int(port)): udp.fileno()}
        with pytest.raises(PreflightError, match=rf"bound to 127\.0\.0\.1:{port}, which no --listen names"):
            open_listeners([], passed)


STRANGER = """
import os, sys
from meshdns.init.cli import run
import meshdns.init.serving, meshdns.resolver.serve.run  # now, for a stranger may be kept from these files too
os.setresuid(1337, 1337, 1337)
sys.exit(run(["resolver", "run", "--no-heartbeat", "--manifests", "/"]))
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("python", "reason"),
    [
        ("closed/python", "cannot reach {at}/closed/python: it may not search {at}/closed: `chmod a+x {at}/closed`"),
        ("link", "cannot reach {at}/link: it may not search {at}/closed: `chmod a+x {at}/closed`"),
        ("copy", "cannot execute {at}/copy: `chmod a+x {at}/copy`"),
    ],
)
def test_a_python_that_our_user_may_not_run_is_told_with_what_bars_the_way(python: str, reason: str) -> None:
    """A load is a child of the same Python, so one that was started by somebody else may be out of reach."""
    with tempfile.TemporaryDirectory() as directory:
        at = Path(directory)
        at.chmod(0o755)
        (at / "closed").mkdir(0o700)
        (at / "closed" / "python").symlink_to(sys.executable)
        (at / "link").symlink_to("closed/python")
        shutil.copy(sys.executable, at / "copy")
        (at / "copy").chmod(0o700)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHOME": sys.base_prefix}
        command = [str(at / python), "-c", STRANGER]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1), done.stderr
    assert f"cannot load manifests: uid 1337 {reason.format(at=at)}" in done.stderr


def test_few_descriptors_are_left_to_forwarding(entries: Path, tmp_path: Path) -> None:
    """Where the hard limit is low, TCP clients get a quarter of the files, which is told once; lookups go upstream."""
    limited = ("prlimit", f"--nofile={FEW_FILES}:{FEW_FILES}")
    with (
        FakeUpstream(answering("192.0.2.7")) as upstream,
        running(entries, tmp_path / "home", "--upstream", upstream.endpoint, under=limited) as one,
        contextlib.ExitStack() as held,
    ):
        for _ in range(FEW_FILES):
            held.enter_context(socket.create_connection(("127.0.0.1", one.port)))
        wait_until(lambda: f"meshdns_tcp_open {FEW_FILES // 4:.1f}" in one.get("/metrics")[1])
        assert one.addresses("www.example") == ["192.0.2.7"]
        text = f"at most {FEW_FILES // 4} clients are answered over TCP: the limit of open files is {FEW_FILES}"
        assert one.log.read_text().count(text) == 1
