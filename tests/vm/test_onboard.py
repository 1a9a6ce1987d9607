"""Onboarded, a machine knows the mesh's names; offboarded, it is what it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from vm import image
from vm.machine import Machine
from vm.snapshot import difference, snapshot, summary

ONBOARD = ("meshdns", "vm", "onboard", "--manifests", "/srv/entries")
LEASE = "240.240.0.1"


def knows_the_mesh(vm: Machine) -> None:
    """Check that names of the mesh resolve and connect, and that other names are answered as ever."""
    assert vm.addresses("address.internal") == {"198.51.100.0"}
    assert vm.page("address.internal") == "page of 198.51.100.0"
    assert vm.addresses("auto.internal") == {LEASE}
    assert vm.page("auto.internal") == "page of 198.51.100.2"
    assert vm.addresses("outside.example") == {"203.0.113.80"}
    assert vm.addresses("nobody.example") == set()


def test_there_and_back(vm: Machine, record_property: Callable[[str, object], None]) -> None:
    """A machine learns the mesh's names by one command and forgets them by another; nothing else is different then."""
    # What waits for the network has it up for good; this is the machine's, whoever waits first.
    vm.shell("systemctl start network-online.target")
    before = snapshot(vm)
    assert vm.addresses("auto.internal") == set()
    vm.run(*ONBOARD)
    knows_the_mesh(vm)
    during = difference(before, snapshot(vm))
    assert "+ unit file meshdns-resolver.service" in during  # the comparison sees what there is to see
    assert "+ user meshdns:" in during
    vm.run("meshdns", "vm", "offboard")
    changes = difference(before, snapshot(vm))
    record_property(
        "printed", f"onboarded and offboarded; compared: {summary(before)}\ndifference: {changes or 'none'}"
    )
    assert changes == ""
    assert vm.run("meshdns", "vm", "offboard").stdout == "nothing to do\n"
    assert vm.addresses("outside.example") == {"203.0.113.80"}


def test_the_ways_of_a_lookup(vm: Machine) -> None:
    """By the stub in resolv.conf, by systemd-resolved over a protocol of its own, by libc by either: one answer."""
    vm.shell("sed -i 's/^hosts:.*/hosts: files resolve [!UNAVAIL=return] dns/' /etc/nsswitch.conf")
    assert vm.addresses("auto.internal") == set()  # and systemd-resolved remembers that there is none
    vm.run(*ONBOARD)
    ways = {
        "the stub": "dig +short @127.0.0.53 auto.internal",
        "libc by dns": "getent -s hosts:dns ahostsv4 auto.internal",
        "libc by resolve": "getent -s hosts:resolve ahostsv4 auto.internal",
        "resolvectl": "resolvectl query -4 auto.internal",
    }
    assert [way for way, command in ways.items() if LEASE not in vm.shell(command, check=False)] == []
    assert "nameserver 127.0.0.53" in vm.shell("cat /etc/resolv.conf")
    knows_the_mesh(vm)


def test_status_tells_how_it_stands(onboarded: Machine) -> None:
    """`vm status` exits 0 while all is as it should be, and with 10, naming it, when something is not."""
    assert onboarded.run("meshdns", "vm", "status").stdout.startswith("onboarded")
    onboarded.shell("systemctl stop meshdns-resolver")
    told = onboarded.run("meshdns", "vm", "status", check=False)
    assert told.returncode == 10
    assert "missing: service meshdns-resolver.service" in told.stdout


def test_again_changes_nothing(onboarded: Machine) -> None:
    """A second onboarding has nothing to do and does nothing: no file, no unit, no rule is another."""
    before = snapshot(onboarded)
    started = _started(onboarded)
    again = onboarded.run(*ONBOARD)
    assert again.stdout.splitlines()[-1] == "nothing to do"
    assert difference(before, snapshot(onboarded)) == ""
    assert _started(onboarded) == started


def test_settings_are_taken_over(vm: Machine) -> None:
    """Files of settings given to `onboard` count, and other ones given later replace them."""
    vm.run("tee", "/srv/capture.yaml", stdin="heartbeat-timeout: 2\n")
    vm.run("tee", "/srv/resolver.yaml", stdin="ttl: 7\n")
    vm.run("tee", "/srv/mesh.yaml", stdin="defaultConfig: {proxyMetadata: {ISTIO_META_DNS_AUTO_ALLOCATE: 'false'}}\n")
    given = ("--capture-config", "/srv/capture.yaml", "--resolver-config", "/srv/resolver.yaml")
    vm.run(*ONBOARD, "--mesh-config", "/srv/mesh.yaml")
    assert vm.addresses("address.internal") == {"198.51.100.0"}
    assert LEASE not in vm.addresses("auto.internal")
    vm.run(*ONBOARD, *given)
    assert 'heartbeat-timeout: "2"' in vm.shell("cat /etc/meshdns/capture.yaml")
    assert " 7 " in " ".join(vm.shell("dig +noall +answer @127.0.0.1 -p 15053 address.internal").split())
    vm.run(*ONBOARD)
    assert "heartbeat-timeout" not in vm.shell("cat /etc/meshdns/capture.yaml")
    knows_the_mesh(vm)


def test_an_upgrade(onboarded: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another version, with other rules, and onboarding again: the new one runs, and so do its rules."""
    wheel = image.build_wheel(tmp_path_factory.mktemp("newer"), "9.9.9")
    place = onboarded.root / "srv" / wheel.name
    place.write_bytes(wheel.read_bytes())
    onboarded.run("pip", "-q", "install", "--no-index", "--no-deps", f"/srv/{wheel.name}")
    onboarded.run(*ONBOARD)
    assert onboarded.run("meshdns", "vm", "status").stdout.startswith("onboarded, by meshdns 9.9.9")
    assert _version_that_serves(onboarded) == "meshdns 9.9.9"
    assert image.OTHER_RULE in onboarded.shell("nft list ruleset")
    knows_the_mesh(onboarded)


def _version_that_serves(vm: Machine) -> str:
    """Return what the relay says at the probe address of the pool: its last one, port 1."""
    script = "import socket; print(socket.create_connection(('240.240.255.255', 1), 10).recv(100).decode())"
    return vm.run("python3", "-c", script).stdout.strip()


def _started(vm: Machine) -> str:
    return vm.shell("systemctl show --property=Id,ActiveEnterTimestampMonotonic,NRestarts 'meshdns-*'")
