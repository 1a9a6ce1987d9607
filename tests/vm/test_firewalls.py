"""Other programs that own rules: what they remove of ours is back at once, and what is theirs stays."""

from __future__ import annotations

from vm.machine import Machine, until

WITHIN_S = 1.0
SPARE_S = 9.0
"""For a machine whose processors other tests keep."""
DISTURBANCES = {
    "nft flush ruleset": "nft flush ruleset",
    "our table deleted": "nft delete table inet meshdns",
    "nftables restarted": "systemctl restart nftables",
    "nftables reloaded": "systemctl reload nftables",
    "firewalld started": "systemctl start firewalld",
    "firewalld reloaded": "firewall-cmd -q --reload",
    "firewalld reloaded whole": "firewall-cmd -q --complete-reload",
    "flushed below firewalld": "nft flush ruleset",
    "firewalld stopped": "systemctl stop firewalld",
}
"""One after the other, on one machine."""
SITE = "flush ruleset\ntable inet site {\n\tchain input {\n\t\ttype filter hook input priority 0;\n\t\taccept\n\t}\n}\n"


def test_rules_come_back(onboarded: Machine) -> None:
    """Whoever removes our rules, they are back, whole, and names of the mesh connect."""
    onboarded.run("tee", "/etc/nftables.conf", stdin=SITE)
    for what, command in DISTURBANCES.items():
        onboarded.shell(command)
        until(lambda: _is_whole(onboarded), f"whole rules after: {what}", within_s=WITHIN_S + SPARE_S)
        until(lambda: onboarded.addresses("auto.internal") == {"240.240.0.1"}, f"name after: {what}")
        assert onboarded.page("auto.internal") == "page of 198.51.100.2", what
    assert onboarded.run("meshdns", "vm", "status").returncode == 0


def test_rules_of_others_stay(onboarded: Machine) -> None:
    """Offboarding removes our table and leaves every other one as it was."""
    onboarded.run("nft", "-f", "-", stdin=SITE.removeprefix("flush ruleset\n"))
    onboarded.run("meshdns", "vm", "offboard")
    left = onboarded.shell("nft list ruleset")
    assert "table inet site" in left
    assert "meshdns" not in left


def test_without_the_watch_they_do_not(onboarded: Machine) -> None:
    """A control: it is meshdns-watch that puts rules back; `systemctl reload meshdns-capture` does it by hand."""
    onboarded.shell("systemctl stop meshdns-watch; nft flush ruleset")
    assert not _is_whole(onboarded)
    assert onboarded.addresses("auto.internal") == set()
    onboarded.shell("systemctl reload meshdns-capture")
    assert _is_whole(onboarded)


def _is_whole(vm: Machine) -> bool:
    return vm.run("meshdns", "capture", "status", "--check", check=False).returncode == 0
