"""What keeps a machine from being onboarded."""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from meshdns.capture.system.listeners import Listener
from meshdns.init import defaults
from meshdns.init.errors import MissingError
from meshdns.init.vm import layout, preflight
from meshdns.init.vm.settings import RESOLVED_UPSTREAMS, VmSettings

BEHIND_THE_STUB = {"resolv-conf": str(RESOLVED_UPSTREAMS)}


@pytest.mark.parametrize(
    ("address", "port", "resolver", "capture", "refused"),
    [
        ("127.0.0.1", 53, {}, {}, True),
        ("0.0.0.0", 53, {}, {}, True),
        ("::", 53, {}, {}, True),
        ("127.0.0.53", 53, {}, {}, False),
        ("192.0.2.2", 53, {}, {}, False),
        ("127.0.0.1", 5353, {}, {}, False),
        ("127.0.0.1", 53, {}, {"dns-servers": ["192.0.2.53"]}, False),
        ("127.0.0.1", 53, BEHIND_THE_STUB, {**BEHIND_THE_STUB, "dns-servers": ["resolv-conf", "127.0.0.53"]}, True),
    ],
)
def test_another_name_server_is_refused_unless_it_was_thought_of(
    address: str, port: int, resolver: dict[str, str], capture: dict[str, object], *, refused: bool
) -> None:
    """Who answers at 127.0.0.1:53 may be captured itself: refused, unless the operator says whom to capture."""
    listener = Listener("udp", ip_address(address), port, 0)
    assert bool(list(preflight._name_server([listener], VmSettings(resolver, capture)))) is refused


@pytest.mark.parametrize(
    ("manifests", "unseen"),
    [("/etc/meshdns/entries", []), ("/root/entries", ["/root/entries"]), ("/tmp/entries", ["/tmp/entries"])],  # noqa: S108
)
def test_what_protected_units_cannot_see_is_told(
    monkeypatch: pytest.MonkeyPatch, manifests: str, unseen: list[str]
) -> None:
    """A directory of manifests that ProtectHome or PrivateTmp hides is named before a unit misses it."""
    monkeypatch.setattr(sys, "prefix", "/opt/meshdns")
    monkeypatch.setattr(preflight, "__file__", "/opt/meshdns/lib/preflight.py")
    told = list(preflight._program([Path(manifests)]))
    assert [line.split(": ")[0] for line in told] == [f"the units cannot see {path}" for path in unseen]


def test_manifests_that_are_not_there_are_told(tmp_path: Path) -> None:
    """A directory of manifests that does not exist, with which the resolver would not start, is named; ours is made."""
    missing = tmp_path / "entries"
    (told,) = preflight._manifests([missing, tmp_path, layout.ENTRIES])
    assert told.startswith(f"there is nothing at {missing}, ")


@pytest.mark.root
def test_manifests_that_this_user_may_not_see_are_not_missed(tmp_path: Path) -> None:
    """To an ordinary user a closed directory says neither that manifests are in it nor that there are none."""
    (tmp_path / "closed").mkdir(mode=0o700)
    path = tmp_path / "closed" / "entries"
    assert list(preflight._manifests([path])) != []
    os.seteuid(65534)
    try:
        assert list(preflight._manifests([path])) == []
    finally:
        os.seteuid(0)


def test_a_dangling_resolv_conf_is_told_with_where_it_leads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A resolv.conf that is a link to nothing is named with what it points at."""
    link = tmp_path / "resolv.conf"
    link.symlink_to("/run/nowhere")
    monkeypatch.setattr(preflight, "BOOTED", tmp_path)
    monkeypatch.setattr(defaults, "RESOLV_CONF", str(link))
    with pytest.raises(MissingError, match=r"resolv.conf is a link to /run/nowhere, which does not exist"):
        preflight.check_machine()
    link.unlink()
    link.write_text("nameserver 192.0.2.53\n")
    preflight.check_machine()


def test_without_systemd_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that systemd does not run on is refused, and told what to use instead."""
    monkeypatch.setattr(preflight, "BOOTED", tmp_path / "no systemd")
    with pytest.raises(MissingError, match="systemd does not run here"):
        preflight.check_machine()
