"""Restarts, of the machine and of its parts: lookups fail for no longer than the switch needs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from vm.machine import Machine, until

TIMEOUT_S = 3.0
"""Of the heartbeat, by default: lookups sent to a resolver that has just died are lost for so long."""
SPARE_S = 2.0
"""For a machine that boots while other tests keep its processors."""
LEASE = "240.240.0.1"
LOOKER = """
import json, socket, time
def ask(name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = b"\\x12\\x34\\x01\\0\\0\\1\\0\\0\\0\\0\\0\\0" + labels
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        try:
            client.sendto(query + b"\\0\\0\\1\\0\\1", ("10.98.0.53", 53))
            return client.recv(512)[3] & 15
        except OSError as error:
            return type(error).__name__
def known(name):
    with open("/srv/looked", "a", buffering=1) as log:
        while True:
            at = time.clock_gettime(time.CLOCK_BOOTTIME)
            log.write(json.dumps([at, ask(name)]) + "\\n")
            time.sleep(0.1)
known("outside.example")
"""
UNIT = """[Unit]
DefaultDependencies=no
After=systemd-networkd.service
[Service]
ExecStart=/usr/bin/python3 /srv/look.py
[Install]
WantedBy=sysinit.target
"""


def _keep_looking(vm: Machine) -> None:
    """Have a unit ask the listed nameserver for an outside name every 100 ms, from early boot on."""
    vm.run("tee", "/srv/look.py", stdin=LOOKER)
    vm.run("tee", "/etc/systemd/system/look.service", stdin=UNIT)
    vm.shell("systemctl daemon-reload; systemctl enable --quiet look.service")


def _looked(root: Path) -> list[tuple[float, object]]:
    return [tuple(json.loads(line)) for line in (root / "srv" / "looked").read_text().splitlines()]


def _longest_failure_s(looked: list[tuple[float, object]]) -> float:
    """Return the longest time between two answers, from the first answer on."""
    answered = [at for at, outcome in looked if outcome == 0]
    return max((later - earlier for earlier, later in itertools.pairwise(answered)), default=0.0)


def test_a_reboot(onboarded: Machine) -> None:
    """After a restart all is back by itself, in order; no lookup since early boot fails longer than the timeout."""
    _keep_looking(onboarded)
    onboarded.reboot()
    until(lambda: onboarded.addresses("auto.internal") == {LEASE}, "name of the mesh")
    assert onboarded.page("auto.internal") == "page of 198.51.100.2"
    assert onboarded.run("meshdns", "vm", "status").returncode == 0
    assert onboarded.shell("systemctl --failed --no-legend") == ""
    ready, installed = _ready_at(onboarded, "meshdns-resolver"), _ready_at(onboarded, "meshdns-capture")
    assert 0 < ready <= installed
    looked = _looked(onboarded.root)
    assert len(looked) > 10
    assert _longest_failure_s(looked) < TIMEOUT_S + SPARE_S


def test_a_power_cut(onboarded: Machine) -> None:
    """Cut off in the middle of everything, the machine comes back onboarded."""
    onboarded.power_cut()
    onboarded.start()
    until(lambda: onboarded.addresses("auto.internal") == {LEASE}, "name of the mesh")
    assert onboarded.run("meshdns", "vm", "status").returncode == 0


def test_the_resolver_dies(onboarded: Machine) -> None:
    """Killed, it is started anew, and stopped, it is not missed: other names are answered by their nameserver."""
    unit = "meshdns-resolver.service"
    before = onboarded.shell(f"systemctl show --property=MainPID --value {unit}")
    onboarded.shell(f"systemctl kill --signal=KILL {unit}")
    until(lambda: onboarded.addresses("auto.internal") == {LEASE}, "name of the mesh")
    assert onboarded.shell(f"systemctl show --property=MainPID --value {unit}") != before
    onboarded.shell(f"systemctl stop {unit}")
    until(lambda: onboarded.addresses("outside.example") == {"203.0.113.80"}, "answer", within_s=TIMEOUT_S + SPARE_S)
    assert onboarded.addresses("auto.internal") == set()
    onboarded.shell(f"systemctl start {unit}")
    until(lambda: onboarded.addresses("auto.internal") == {LEASE}, "name of the mesh")


def test_a_hanging_resolver_is_ended(onboarded: Machine) -> None:
    """One that hangs is out of the way after the timeout, and the watchdog has another one started."""
    unit = "meshdns-resolver.service"
    onboarded.shell(f"systemctl kill --kill-whom=main --signal=STOP {unit}")
    until(
        lambda: onboarded.addresses("outside.example") == {"203.0.113.80"}, "answer", within_s=TIMEOUT_S + SPARE_S + 5
    )
    until(
        lambda: onboarded.shell(f"systemctl show --property=NRestarts --value {unit}") == "1\n", "restart", within_s=40
    )
    until(lambda: onboarded.addresses("auto.internal") == {LEASE}, "name of the mesh")


def _ready_at(vm: Machine, unit: str) -> int:
    return int(vm.shell(f"systemctl show --property=ActiveEnterTimestampMonotonic --value {unit}"))
