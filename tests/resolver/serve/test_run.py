"""The whole resolver as a process: from manifests on disk to answers, and through everything that changes meanwhile."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import dns.rcode
import pytest
from ports import free_port
from resolving import ADDRESS_AND_AUTO, MESHDNS, Running, running

BROKEN = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: broken}\nspec: {hosts: [broken"
ONE_MORE = ADDRESS_AND_AUTO.split("---")[1].replace("auto", "late")


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    """Make a directory with the two ServiceEntries."""
    directory = tmp_path / "entries"
    directory.mkdir()
    (directory / "a.yaml").write_text(ADDRESS_AND_AUTO)
    return directory


def test_both_names_are_answered_over_udp_and_tcp(entries: Path, tmp_path: Path) -> None:
    """A given address is answered as it is, a missing one by the first lease, over either transport."""
    with running(entries, tmp_path / "home") as one:
        assert one.addresses("address.internal") == ["198.51.100.0"]
        assert one.addresses("auto.internal") == ["240.240.0.1"]
        assert one.ask("auto.internal", tcp=True).answer == one.ask("auto.internal").answer


def test_leases_without_a_relay_are_told_once(entries: Path, tmp_path: Path) -> None:
    """With --no-relay a leased address leads nowhere, and the log says so, once."""
    with running(entries, tmp_path / "home") as one:
        (entries / "late.yaml").write_text(ONE_MORE)
        one.wait_for("late.internal", ["240.240.0.2"])
        assert one.log.read_text().count("nothing stands behind them: --no-relay") == 1


LEASED_BY_ISTIO = "status: {addresses: [{host: auto.internal, value: 240.240.0.1}]}\n"


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        pytest.param((), "", 1, id="nowhere"),
        pytest.param(("--state", "{home}"), "", 0, id="in a ledger"),
        pytest.param(("--no-auto-allocate",), LEASED_BY_ISTIO, 0, id="by Istio"),
    ],
)
def test_leases_that_are_kept_nowhere_are_told_once(
    options: tuple[str, ...], status: str, told: int, entries: Path, tmp_path: Path
) -> None:
    """Without --state leases of our own may move with a restart, and the log says so, once; of others' it does not."""
    (entries / "a.yaml").write_text(ADDRESS_AND_AUTO + status)
    given = [option.format(home=tmp_path / "state") for option in options]
    with running(entries, tmp_path / "home", *given) as one:
        one.wait_for("auto.internal", ["240.240.0.1"])
        (entries / "late.yaml").write_text(ONE_MORE.replace("resolution", "addresses: [192.0.2.1]\n  resolution"))
        one.wait_for("late.internal", ["192.0.2.1"])
        assert one.log.read_text().count("give --state DIR to keep them") == told


def test_an_added_entry_is_answered_within_a_second(entries: Path, tmp_path: Path) -> None:
    """A file that appears is answered within a second of the child's start; a file that goes takes its names along."""
    with running(entries, tmp_path / "home") as one:
        (entries / "late.yaml").write_text(ONE_MORE)
        one.wait_for("late.internal", ["240.240.0.2"])
        (entries / "late.yaml").unlink()
        one.wait_for("late.internal", [])
        assert one.addresses("auto.internal") == ["240.240.0.1"]


def test_a_broken_file_removes_nothing(entries: Path, tmp_path: Path) -> None:
    """A file that stops parsing keeps its names, is reported with file and line, and the good rest is served."""
    with running(entries, tmp_path / "home") as one:
        (entries / "b.yaml").write_text(ONE_MORE)
        one.wait_for("late.internal", ["240.240.0.2"])
        (entries / "b.yaml").write_text(BROKEN)
        (entries / "c.yaml").write_text(ONE_MORE.replace("late", "later"))
        one.wait_for("later.internal", ["240.240.0.3"])
        assert one.addresses("late.internal") == ["240.240.0.2"]
        assert f"{entries}/b.yaml:4: cannot parse" in one.log.read_text()


def test_a_directory_that_vanishes_keeps_its_names(entries: Path, tmp_path: Path) -> None:
    """While the mounted directory is gone its names are answered, and a new one in its place is read."""
    with running(entries, tmp_path / "home") as one:
        entries.rename(tmp_path / "elsewhere")
        time.sleep(1)
        assert one.addresses("auto.internal") == ["240.240.0.1"]
        entries.mkdir()
        (entries / "new.yaml").write_text(ONE_MORE)
        one.wait_for("late.internal", ["240.240.0.2"], within_s=8)


def test_a_configmap_swap_is_one_change(tmp_path: Path) -> None:
    """Renaming `..data`, as kubelet does, replaces every name at once."""
    mount = tmp_path / "mount"
    for version, text in (("..1", ADDRESS_AND_AUTO), ("..2", ONE_MORE)):
        (mount / version).mkdir(parents=True)
        (mount / version / "a.yaml").write_text(text)
    (mount / "..data").symlink_to("..1")
    (mount / "a.yaml").symlink_to("..data/a.yaml")
    with running(mount, tmp_path / "home") as one:
        assert one.addresses("auto.internal") == ["240.240.0.1"]
        (mount / "..data_tmp").symlink_to("..2")
        (mount / "..data_tmp").rename(mount / "..data")
        one.wait_for("late.internal", ["240.240.0.2"])
        assert one.ask("auto.internal").rcode() == dns.rcode.SERVFAIL  # forwarded, and nobody is there


def test_leases_outlive_a_restart(entries: Path, tmp_path: Path) -> None:
    """With --state a host keeps its address over a restart in which an older entry would have come before it."""
    state = ("--state", str(tmp_path / "state"))
    with running(entries, tmp_path / "home", *state) as one:
        assert one.addresses("auto.internal") == ["240.240.0.1"]
    (entries / "0.yaml").write_text(ONE_MORE.replace("external-late", "a").replace("late", "early"))
    with running(entries, tmp_path / "home", *state) as one:
        assert one.addresses("auto.internal") == ["240.240.0.1"]
        assert one.addresses("early.internal") == ["240.240.0.2"]


def test_an_unwritable_state_is_one_warning(entries: Path, tmp_path: Path) -> None:
    """Where leases cannot be kept, that is said once and everything else goes on."""
    file = tmp_path / "file"
    file.write_text("")
    with running(entries, tmp_path / "home", "--state", str(file / "state")) as one:
        assert one.addresses("auto.internal") == ["240.240.0.1"]
        one.process.send_signal(signal.SIGHUP)
        (entries / "late.yaml").write_text(ONE_MORE)
        one.wait_for("late.internal", ["240.240.0.2"])
        assert one.log.read_text().count("cannot write") == 1


def test_a_reload_delays_and_loses_nothing(tmp_path: Path) -> None:
    """While a thousand entries are swapped again and again, every lookup is answered by the old or the new table."""
    directory = tmp_path / "entries"
    directory.mkdir()
    text = "---".join(ONE_MORE.replace("late", f"h{number}") for number in range(1000))
    (directory / "a.yaml").write_text(text)
    with running(directory, tmp_path / "home") as one:
        done = threading.Event()

        def rewrite() -> None:
            give_up = time.monotonic() + 30
            while generation(one) < 4 and time.monotonic() < give_up:
                (directory / "a.yaml").write_text(f"# {time.monotonic()}\n{text}")
                time.sleep(1)
            done.set()

        writer = threading.Thread(target=rewrite)
        writer.start()
        asked = 0
        while not done.is_set():
            assert one.addresses("h500.internal") != []
            asked += 1
        writer.join()
        assert asked > 100
        assert one.json("/table") != []
        assert generation(one) >= 4


def generation(one: Running) -> float:
    """Return how many tables there have been."""
    line = next(line for line in one.get("/metrics")[1].splitlines() if line.startswith("meshdns_table_gen"))
    return float(line.split()[1])


def test_resolv_conf_is_followed(entries: Path, tmp_path: Path) -> None:
    """When resolv.conf names other servers, these are asked from then on, without a restart."""
    with running(entries, tmp_path / "home") as one:
        (tmp_path / "home" / "resolv.conf").write_text("nameserver 127.0.0.98\n")
        give_up = time.monotonic() + 5
        while '"127.0.0.98:53"' not in one.get("/metrics")[1]:
            assert time.monotonic() < give_up
            time.sleep(0.1)


def test_sigterm_drains_and_leaves_with_0(entries: Path, tmp_path: Path) -> None:
    """SIGTERM without a heartbeat ends the process at once, with exit code 0; SIGINT with 130."""
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        with running(entries, tmp_path / "home") as one:
            one.process.send_signal(number)
            assert one.process.wait(10) == code


@pytest.mark.parametrize("page", ["/metrics", "/healthz", "/readyz", "/table", "/explain?name=auto.internal"])
def test_every_page_is_there(page: str, entries: Path, tmp_path: Path) -> None:
    """The admin port answers each documented path with 200 and a body."""
    with running(entries, tmp_path / "home") as one:
        status, body = one.get(page)
        assert status == 200
        assert body


def test_what_is_no_page_is_404(entries: Path, tmp_path: Path) -> None:
    """Any other path is 404, and any other method 405, in one connection each."""
    with running(entries, tmp_path / "home") as one:
        assert one.get("/nothing")[0] == 404
        with socket.create_connection(("127.0.0.1", one.admin)) as client:
            client.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"//[", b"400"),
        (b"/explain?" + b"name=a&" * 17, b"400"),
        (b"/explain?address=240.240.0.1&port=%C2%B2", b"200"),
        (b"/explain?address=no-address", b"400"),
        (b"/query?dns=%C2%B2", b"400"),
        (b"/explain?name=%E2%82%AC", b"200"),
    ],
)
def test_no_request_is_without_a_reply(target: bytes, status: bytes, entries: Path, tmp_path: Path) -> None:
    """A target that means nothing gets a status and leaves no traceback in the log."""
    with running(entries, tmp_path / "home") as one:
        one.wait_for("auto.internal", ["240.240.0.1"])
        with socket.create_connection(("127.0.0.1", one.admin)) as client:
            client.sendall(b"GET " + target + b" HTTP/1.1\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 " + status)
        assert "Traceback" not in one.log.read_text()


def start(*options: str) -> subprocess.CompletedProcess[str]:
    """Run `resolver run` where it cannot start, to its end."""
    command = [*MESHDNS, "resolver", "run", "--admin", f"127.0.0.1:{free_port()}", "--no-relay", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_what_hinders_a_start_is_one_line_and_exit_3(tmp_path: Path) -> None:
    """A port in use, an unreadable resolv.conf and the wrong uid each cost exit code 3 and one line with the cause."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        in_use = start("--no-heartbeat", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        no_admin = start("--no-heartbeat", "--listen", f"127.0.0.1:{free_port()}", "--admin", at)
    no_file = start("--no-heartbeat", "--resolv-conf", str(tmp_path / "no-resolv.conf"))
    no_manifests = start("--no-heartbeat", "--manifests", str(tmp_path / "none"))
    other_uid = start("--proxy-uid", str(os.getuid() + 1), "--listen", f"127.0.0.1:{free_port()}")
    for done, words in (
        (in_use, "the port is in use"),
        (no_admin, f"cannot listen on {at} for --admin: Address already in use: give another\n"),
        (no_file, "resolv.conf"),
        (no_manifests, "cannot read the manifests at"),
        (other_uid, "heartbeat as uid"),
    ):
        assert done.returncode == 3, done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_servers_that_are_named_need_no_resolv_conf(entries: Path, tmp_path: Path) -> None:
    """With --upstream a missing resolv.conf is one warning; what it says counts as soon as it is there."""
    late = tmp_path / "late.conf"
    with running(entries, tmp_path / "home", "--upstream", "127.0.0.99", "--resolv-conf", str(late)) as one:
        assert one.log.read_text().count(f"cannot read {late}") == 1
        assert one.addresses("auto.internal.corp.example") == []
        late.write_text("search corp.example\n")
        one.wait_for("auto.internal.corp.example", ["240.240.0.1"], 5)


def beats_sent(seen: socket.socket, port: int) -> int:
    """Count the empty datagrams to a port among all the UDP that a raw socket has seen."""
    count = 0
    while select.select([seen], [], [], 0)[0]:
        udp = seen.recv(65535)[20:]
        count += len(udp) == 8 and int.from_bytes(udp[2:4], "big") == port
    return count


def test_a_start_that_fails_sends_no_heartbeat(entries: Path, tmp_path: Path) -> None:
    """A resolver beats when everything is open: one beat of a process that then ends would send lookups to nobody."""
    beating = ("--heartbeat", "--proxy-uid", str(os.getuid()))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as seen:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = free_port()
            at = f"127.0.0.1:{taken.getsockname()[1]}"
            assert start(*beating, "--listen", f"127.0.0.1:{port}", "--admin", at).returncode == 3
        assert beats_sent(seen, port) == 0
        with running(entries, tmp_path / "home", *beating) as one:
            give_up = time.monotonic() + 20
            while not beats_sent(seen, one.port):  # what others send meanwhile may have filled the socket
                assert time.monotonic() < give_up
                time.sleep(0.05)


def test_two_load_children_never_overlap(entries: Path, tmp_path: Path) -> None:
    """SIGHUP many times in a row loads once now and once afterwards, not once for each."""
    with running(entries, tmp_path / "home") as one:
        for _ in range(20):
            one.process.send_signal(signal.SIGHUP)
            time.sleep(0.005)
        (entries / "late.yaml").write_text(ONE_MORE)
        one.wait_for("late.internal", ["240.240.0.2"])
        assert _loads(one) < 8


def _loads(one: Running) -> float:
    line = next(line for line in one.get("/metrics")[1].splitlines() if line.startswith("meshdns_table_loads_total "))
    return float(line.split()[1])
