"""What cannot be onboarded is refused in a line that says why, and nothing at all is changed."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

from vm.machine import Machine, until
from vm.snapshot import difference, snapshot

ONBOARD = ("meshdns", "vm", "onboard", "--manifests", "/srv/entries")


class Refusal(NamedTuple):
    made: str
    """What makes the machine so."""
    unmade: str
    says: str
    command: tuple[str, ...] = ONBOARD
    uid: int = 0
    exit_code: int = 3


REFUSALS = {
    "no nftables": Refusal(
        # iptables' programs are links to these two.
        "for each in nft xtables-nft-multi xtables-legacy-multi; do mv /usr/sbin/$each /usr/sbin/$each.away; done",
        "for each in nft xtables-nft-multi xtables-legacy-multi; do mv /usr/sbin/$each.away /usr/sbin/$each; done",
        "install the package nftables",
    ),
    "another nameserver": Refusal(
        "systemd-run -q --unit=other dnsmasq -k -C /dev/null --listen-address=127.0.0.1 --bind-interfaces -R -u root",
        "systemctl stop other",
        "another name server",
    ),
    "a dangling link": Refusal(
        "mv /etc/resolv.conf /etc/resolv.conf.away; ln -s /nowhere/resolv.conf /etc/resolv.conf",
        "mv /etc/resolv.conf.away /etc/resolv.conf",
        "/nowhere/resolv.conf, which does not exist",
    ),
    "an ordinary user": Refusal("true", "true", "run it with sudo", uid=65534),
    "an ordinary user takes it back": Refusal(
        "true", "true", "run it with sudo", command=("meshdns", "vm", "offboard"), uid=65534
    ),
    "settings that nobody knows": Refusal(
        "echo 'dns-portt: 53' >/srv/wrong.yaml",
        "rm /srv/wrong.yaml",
        "dns-port",
        command=(*ONBOARD, "--capture-config", "/srv/wrong.yaml"),
        exit_code=2,
    ),
}


def test_refused_and_untouched(vm: Machine) -> None:
    """Each is refused with its exit code and a line that names the cause; the machine is byte for byte as before."""
    for name, case in REFUSALS.items():
        vm.shell(case.made)
        before = snapshot(vm)
        done = vm.run(*case.command, uid=case.uid, check=False)
        assert (done.returncode, name) == (case.exit_code, name), done.stderr
        errors = [line for line in done.stderr.splitlines() if ": warning: " not in line]
        assert case.says in errors[-1], name
        assert all(line.startswith("meshdns: ") for line in errors), name
        assert difference(before, snapshot(vm)) == "", name
        vm.shell(case.unmade)
    vm.run(*ONBOARD)  # the machine can be onboarded when nothing is in the way


def dry_run(vm: Machine) -> tuple[list[str], list[str]]:
    """Return what an ordinary user's dry run prints, and the warnings."""
    done = vm.run(*ONBOARD, "--dry-run", uid=65534)
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_what_an_ordinary_user_cannot_see_is_said(vm: Machine) -> None:
    """A dry run without root says that it takes root and what was not checked; of the rules it claims nothing."""
    planned, warnings = dry_run(vm)
    assert "would write file /etc/meshdns/resolver.yaml" in planned
    assert warnings[0] == "meshdns: warning: onboarding takes root: run it with sudo"
    assert "meshdns: warning: not checked: the rules of nf_tables: that takes CAP_NET_ADMIN" in warnings
    vm.run(*ONBOARD)
    again, _ = dry_run(vm)
    for lines in (planned, again):
        (of_rules,) = (line for line in lines if " rules " in line)
        assert of_rules.startswith("cannot tell whether it would install rules /etc/meshdns/capture.yaml: ")
    assert len(again) == 1
    assert vm.run(*ONBOARD, "--dry-run").stdout == "nothing to do\n"


def test_two_at_once(vm: Machine) -> None:
    """Of two onboardings at once one is done and the other refused; what they leave is one whole onboarding."""
    with vm.started(*ONBOARD) as first:
        assert first.stdout
        first.stdout.readline()
        second = vm.run(*ONBOARD, check=False)
        rest = first.stdout.read()
        assert first.wait() == 0, rest
    if second.returncode == 0:  # it came when the first was through
        assert second.stdout.splitlines()[-1] == "nothing to do"
    else:
        assert second.returncode == 3
        assert "another `meshdns vm` is at work" in second.stderr
    until(lambda: vm.run("meshdns", "vm", "status", check=False).returncode == 0, "whole onboarding")


def test_a_program_in_somebodys_home(vm: Machine) -> None:
    """From a virtual environment that units cannot see it is not onboarded."""
    vm.shell("cp -a /opt/meshdns /root/venv")
    done: subprocess.CompletedProcess[str] = vm.run(
        "/root/venv/bin/python3", "-m", "meshdns.init.cli", *ONBOARD[1:], check=False
    )
    assert done.returncode == 3
    assert "the units cannot see /root/venv" in done.stderr
