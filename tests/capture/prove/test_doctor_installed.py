"""What is wrong with an installation is found, and a sound one is left in peace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from capturing import LISTED, PROXY, spec
from diagnosing import ORDINARY, OTHER, SERVERS, ids, listening, told, until_told, without
from namespaces import Namespace
from proving import capture, delete_rules, pod, resolver

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.install import install, new_record

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network and mount namespaces")


@pytest.fixture
def there() -> Iterator[Namespace]:
    with pod() as made:
        yield made


def test_a_sound_machine_is_left_in_peace(there: Namespace) -> None:
    """Nothing is found before install, nor with rules, whatever loaded them, and a resolver; others lack privilege."""
    assert told(there) == ({"findings": [], "unseen": []}, 0)
    found, code = told(there, by=ORDINARY)
    assert (ids(found), code) == ({("capability", "warning")}, 0)
    for backend in ("nft", "iptables-nft", "iptables-legacy"):
        capture(there, "install", *SERVERS, f"--backend={backend}")
        with resolver(there):
            until_told(there, set())


@pytest.mark.parametrize("backend", ["nft", "iptables-legacy"])
@pytest.mark.parametrize(("on_down", "level"), [("open", "warning"), ("closed", "error")])
def test_no_heartbeat(there: Namespace, backend: str, on_down: str, level: str) -> None:
    """Rules without a heartbeat are a finding that names who must beat and what to look at; with one they are none."""
    capture(there, "install", *SERVERS, f"--backend={backend}", f"--on-resolver-down={on_down}")
    (finding,) = until_told(there, {("no-heartbeat", level)})["findings"]
    assert f"uid {PROXY} over ipv4 and ipv6" in finding["cause"]
    assert ("refused" in finding["cause"]) is (on_down == "closed")
    assert "nobody listens at UDP port 15053" in finding["fix"]
    with resolver(there):
        until_told(there, set())
        there.run("nft", "table inet filter { chain input { type filter hook input priority 0; policy drop; }; }")
        (finding,) = until_told(there, {("no-heartbeat", level)})["findings"]
        assert "`curl -s 127.0.0.1:15054/readyz`" in finding["fix"]
        there.run("nft", "delete", "table", "inet", "filter")
        until_told(there, set())


DOCKER = "iptables-nft -t nat -N DOCKER_OUTPUT; iptables-nft -t nat -A OUTPUT -d 127.0.0.11 -j DOCKER_OUTPUT"


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("iptables-legacy", {("legacy-and-nft", "error"), ("docker-dns", "warning")}),
        ("nft", {("docker-dns", "warning")}),
    ],
)
def test_others_take_what_ours_should(there: Namespace, backend: str, expected: set[tuple[str, str]]) -> None:
    """Docker's NAT in nf_tables goes before that of legacy tables if it was loaded first, and never before nft's."""
    there.run("sh", "-c", DOCKER)
    capture(there, "install", *SERVERS, f"--backend={backend}")
    with resolver(there):
        found = until_told(there, expected)
    fixes = {each["id"]: each["fix"] for each in found["findings"]}
    assert fixes["docker-dns"].startswith("see legacy-and-nft" if backend == "iptables-legacy" else "nothing:")


def test_a_heartbeat_of_the_wrong_user(there: Namespace) -> None:
    """Where the resolver runs as another user than its rules know, the finding names both."""
    capture(there, "install", *SERVERS, f"--proxy-uid={OTHER}")
    with resolver(there):
        found = until_told(there, {("no-heartbeat", "warning"), ("port-taken", "error")})
    fix = next(each["fix"] for each in found["findings"] if each["id"] == "no-heartbeat")
    assert f"as uid {OTHER}" in fix
    assert f"uid {PROXY}'s" in fix


@pytest.mark.parametrize(
    ("backend", "left", "missing", "package"),
    [("nft", ("iptables*",), "nft", "nftables"), ("iptables-legacy", ("nft",), "iptables", "iptables")],
)
def test_rules_that_no_program_shows(
    there: Namespace, backend: str, left: tuple[str, ...], missing: str, package: str
) -> None:
    """Rules of ours without the program that shows them are an error that names its package; without rules none is."""
    gone = without(*left, "xtables*" if missing == "nft" else "nft")
    assert told(there, gone)[1] == 0
    capture(there, "install", *SERVERS, f"--backend={backend}")
    found, code = told(there, gone)
    assert ("program-missing", "error") in ids(found)
    (finding,) = (each for each in found["findings"] if each["id"] == "program-missing")
    assert f"and {missing}, which" in finding["cause"]
    assert finding["fix"] == f"install the package {package}"
    assert code == 1


def testwithout_nft_nobody_blames_the_kernel(there: Namespace) -> None:
    """Where nft is missing the rules cannot be tried: that is listed as unseen, and no error of the kernel's."""
    found, _ = told(there, without("iptables*", "xtables*"))
    assert "module-missing" not in {name for name, _ in ids(found)}
    assert any("whether this kernel takes the rules: cannot run nft" in what for what in found["unseen"])


@pytest.mark.parametrize("backend", ["nft", "iptables-legacy"])
def test_rules_that_somebody_changed(there: Namespace, backend: str) -> None:
    """A rule that is gone is told, and so is a table that was emptied; an installation anew puts an end to it."""
    install = ("install", *SERVERS, f"--backend={backend}")
    empty = "nft flush table inet meshdns" if backend == "nft" else "iptables-legacy -w 5 -t nat -F"
    for ids_of_rules in (("nat-dns-4",), ()):
        capture(there, *install)
        assert "rules-changed" not in {name for name, _ in ids(told(there, options=())[0])}
        if ids_of_rules:
            delete_rules(there, *ids_of_rules, backend=backend)
        else:
            there.run(*empty.split())
        assert ("rules-changed", "warning") in ids(told(there, options=())[0])


@pytest.mark.parametrize(("holds", "beside"), [("nft", "iptables-legacy"), ("iptables-legacy", "nft")])
def test_a_second_installation_beside_the_first(there: Namespace, holds: str, beside: str) -> None:
    """What another backend of ours holds too is told, as by `status`, until an installation removes it."""
    for made in (BACKENDS[beside](), BACKENDS[holds]()):
        there.call(partial(install, made, new_record(spec(), made, "1", 1)))
    found, _ = told(there, options=(f"--backend={holds}",))
    (finding,) = (each for each in found["findings"] if each["id"] == "rules-changed")
    assert f"also installed with {beside}" in finding["cause"]
    capture(there, "install", *SERVERS, f"--backend={holds}")
    assert "rules-changed" not in {name for name, _ in ids(told(there, options=())[0])}


SAVE = {
    "/etc/nftables.conf": "nft list ruleset >/etc/nftables.conf",
    "/etc/iptables/rules.v4": "mkdir -p /etc/iptables; iptables-legacy-save >/etc/iptables/rules.v4",
}


@pytest.mark.parametrize("path", SAVE)
@pytest.mark.parametrize(("on_down", "level"), [("open", "warning"), ("closed", "error")])
def test_saved_rules(there: Namespace, path: str, on_down: str, level: str) -> None:
    """Rules of ours in what is loaded at boot are an error where they refuse lookups, else a warning."""
    assert "saved-rules" not in {name for name, _ in ids(told(there, SAVE[path])[0])}
    backend = "nft" if "nft" in path else "iptables-legacy"
    capture(there, "install", *SERVERS, f"--backend={backend}", f"--on-resolver-down={on_down}")
    assert ("saved-rules", level) in ids(told(there, SAVE[path])[0])
    assert ("saved-rules", level) in ids(told(there, SAVE[path], by=ORDINARY)[0])


NO_RIGHT = "-dac_override,-dac_read_search"
"""To read what belongs to others, which root of a container may lack."""


def test_the_recorded_resolv_conf(there: Namespace, tmp_path: Path) -> None:
    """A nameserver that has come since install is told, and that the file may not be read, or has gone."""
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {LISTED[0]}\n")
    capture(there, "install", f"--resolv-conf={file}")
    assert "resolv-conf" not in {name for name, _ in ids(told(there, options=())[0])}
    file.write_text(f"nameserver {LISTED[0]}\nnameserver 10.9.9.9\n")
    assert ("resolv-conf", "warning") in ids(told(there, options=())[0])
    os.chown(file, OTHER, OTHER)
    file.chmod(0o600)
    found, _ = told(there, options=(), by=("setpriv", f"--bounding-set={NO_RIGHT}", f"--inh-caps={NO_RIGHT}"))
    assert any("Permission denied" in each["cause"] for each in found["findings"] if each["id"] == "resolv-conf")
    file.unlink()
    assert ("resolv-conf", "error") in ids(told(there, options=())[0])


def test_a_flushed_cache_is_not_told_for_ever(there: Namespace) -> None:
    """After install the finding says when that was, and that there is nothing to do where caches were flushed since."""
    nscd = "mkdir /run/nscd; touch /run/nscd/socket"
    capture(there, "install", *SERVERS)
    (finding,) = (each for each in told(there, nscd, ())[0]["findings"] if each["id"] == "dns-cache")
    assert "installed 0 min ago" in finding["cause"]
    assert "unless that was done since" in finding["fix"]


def test_it_goes_by_what_is_installed(there: Namespace) -> None:
    """Without options the recorded ones count; given ones stand in their place; who may not read any accuses nobody."""
    capture(there, "install", *SERVERS, f"--proxy-uid={OTHER}")
    with listening(there, "tcp", "127.0.0.1", 15053, OTHER):
        assert "port-taken" not in {name for name, _ in ids(told(there, options=())[0])}
        assert ("port-taken", "error") in ids(told(there)[0])
        found, _ = told(there, options=(), by=ORDINARY)
    assert "port-taken" not in {name for name, _ in ids(found)}
    assert any(what.startswith("what is installed, so options and defaults count: ") for what in found["unseen"])
    taken = f"whether that is as it should be: tcp port 15053, the resolver's, belongs to uid {OTHER}"
    assert taken in found["unseen"]


def test_nothing_is_changed(there: Namespace) -> None:
    """Rules, routes and addresses are the same before and after, whoever asks."""

    def state() -> str:
        return there.ruleset() + there.run("sh", "-c", "ip route; ip -6 route; ip address").stdout

    before = state()
    told(there)
    told(there, by=ORDINARY)
    assert state() == before
