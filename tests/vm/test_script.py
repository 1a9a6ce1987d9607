"""`init/onboard-vm.sh` on a bare machine: from nothing to onboarded and back, and nothing half done."""

from __future__ import annotations

from typing import Final

import pytest
from vm.image import copy_tree
from vm.machine import Machine
from vm.snapshot import difference, snapshot

OFFLINE: Final = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
SCRIPT: Final = "/srv/release/onboard-vm.sh"
ENTRIES: Final = ("--manifests", "/srv/entries")


def _wheel(vm: Machine) -> str:
    (found,) = (vm.root / "srv" / "release").glob("*.whl")
    return f"/srv/release/{found.name}"


def test_there_and_back(bare: Machine) -> None:
    """One command from nothing to names of the mesh; again it does nothing; one command back, and no difference."""
    before = snapshot(bare)
    first = bare.run("sh", SCRIPT, _wheel(bare), *ENTRIES, environment=OFFLINE)
    assert first.stdout.splitlines()[-1].startswith("the command is /opt/meshdns/bin/meshdns")
    assert bare.addresses("auto.internal") == {"240.240.0.1"}
    assert bare.page("auto.internal") == "page of 198.51.100.2"
    assert bare.shell("head -n 1 /opt/meshdns/bin/meshdns").startswith("#!/opt/meshdns/bin/python")
    onboarded = snapshot(bare)
    again = bare.run("sh", SCRIPT, _wheel(bare), *ENTRIES, environment=OFFLINE)
    assert again.stdout == "nothing to do\n"
    assert difference(onboarded, snapshot(bare)) == ""
    bare.run("sh", SCRIPT, "--offboard")
    assert difference(before, snapshot(bare)) == ""
    assert bare.run("sh", SCRIPT, "--offboard").stdout == "nothing to do\n"


def test_from_another_umask_for_the_resolvers_user(bare: Machine) -> None:
    """With root's umask at 077 the resolver's user can read what is installed all the same."""
    bare.run("sh", "-euc", f"umask 077; exec sh {SCRIPT} {_wheel(bare)} --manifests /srv/entries", environment=OFFLINE)
    assert bare.addresses("auto.internal") == {"240.240.0.1"}


def test_from_a_checkout(bare: Machine) -> None:
    """Run where it stands in a checkout, it installs that."""
    copy_tree(bare.root / "srv" / "tree")
    bare.run("sh", "/srv/tree/init/onboard-vm.sh", *ENTRIES, environment=OFFLINE)
    assert bare.addresses("auto.internal") == {"240.240.0.1"}
    bare.run("sh", "/srv/tree/init/onboard-vm.sh", "--offboard")
    assert bare.shell("ls /opt") == ""


REFUSALS: Final[dict[str, tuple[str, str, str]]] = {
    "pip fails": ("true", f"sh {SCRIPT} WHEEL --manifests /srv/entries", "nothing is changed"),
    "no such wheel": ("true", f"sh {SCRIPT} /srv/release/other.whl", "no such wheel"),
    "an ordinary user": ("true", f"setpriv --reuid=65534 --clear-groups sh {SCRIPT} WHEEL", "run it with sudo"),
    "no new Python": ("mv /usr/bin/python3.11 /srv/python3.11", f"sh {SCRIPT} WHEEL", "apt-get install python3"),
    "another at work": (
        "systemd-run -q -- flock /opt sleep 300; while flock -n /opt true; do sleep 0.1; done",
        f"sh {SCRIPT} WHEEL",
        "another onboard-vm.sh",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_and_untouched(bare: Machine, case: str) -> None:
    """Where it cannot go on it says so in its last line, exits with 3, and has changed nothing."""
    made, command, says = REFUSALS[case]
    bare.shell(made)
    files = "find /opt /etc /usr -newer /srv/now"
    bare.shell("touch /srv/now")
    no_wheels = {"PIP_NO_INDEX": "1"} if case == "pip fails" else OFFLINE
    done = bare.run("sh", "-euc", command.replace("WHEEL", _wheel(bare)), environment=no_wheels, check=False)
    assert done.returncode == 3, done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert bare.shell(f"{files} ! -type d") == ""
    assert bare.shell("ls /opt") == ""


def test_a_refused_onboarding_leaves_no_environment(bare: Machine) -> None:
    """What `meshdns vm onboard` refuses, and what it only says, leaves nothing in /opt."""
    dry = bare.run("sh", SCRIPT, _wheel(bare), *ENTRIES, "--dry-run", environment=OFFLINE)
    assert "would install rules" in dry.stdout
    assert bare.shell("ls /opt") == ""
    bare.shell("mv /etc/resolv.conf /etc/resolv.conf.away; ln -s /nowhere /etc/resolv.conf")
    refused = bare.run("sh", SCRIPT, _wheel(bare), *ENTRIES, environment=OFFLINE, check=False)
    assert refused.returncode == 3
    assert bare.shell("ls /opt") == ""
