"""The units that an onboarding writes."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from pathlib import Path

import click
import pytest

from meshdns.init.cli import meshdns
from meshdns.init.vm import layout
from meshdns.init.vm.place import Directory, File, UnitFile, UnitLink
from meshdns.init.vm.rules import MESHDNS, Rules
from meshdns.init.vm.settings import VmSettings
from meshdns.init.vm.steps import steps
from meshdns.init.vm.systemd import Service

SETTINGS = VmSettings({"manifests": [str(layout.ENTRIES)]}, {})
STEPS = tuple(steps(SETTINGS, 60))
UNITS = {step.at.rpartition("/")[2]: step.content.decode() for step in STEPS if isinstance(step, UnitFile)}
WRITTEN = {step.at for step in STEPS if isinstance(step, File)}


def sections(text: str) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # a unit's keys have capitals
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("unit", UNITS)
def test_units_run_commands_that_exist_with_files_that_are_written(unit: str) -> None:
    """Whatever a unit runs of ours is a command with such options, and its settings are among the files written."""
    lines = re.findall(rf"^Exec\w+={re.escape(' '.join(MESHDNS))} (.*)$", UNITS[unit], re.MULTILINE)
    assert lines
    for line in lines:
        group, name, *options = line.split()
        found = meshdns.get_command(click.Context(meshdns), group)
        assert isinstance(found, click.Group)
        command = found.get_command(click.Context(found), name)
        assert command is not None
        assert set(options[::2]) <= {opt for parameter in command.params for opt in parameter.opts}
        assert set(options[1::2]) <= WRITTEN


@pytest.mark.parametrize(
    ("unit", "capabilities"),
    [(layout.RESOLVER, ""), (layout.CAPTURE, "CAP_NET_ADMIN"), (layout.WATCH, "CAP_NET_ADMIN")],
)
def test_units_have_the_capabilities_they_need_and_no_other(unit: str, capabilities: str) -> None:
    """The resolver has no capability at all, the others the one that rules take; none may gain any."""
    service = sections(UNITS[unit])["Service"]
    assert service["CapabilityBoundingSet"] == capabilities
    assert (service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "strict")


def test_what_starts_at_boot_comes_last() -> None:
    """Until rules are verified nothing starts at boot: before the links come the rules, before them the resolver."""
    order = [type(step) for step in STEPS]
    assert order.index(Service) < order.index(Rules) < order.index(UnitLink)
    assert set(order[order.index(UnitLink) :]) == {UnitLink}
    assert max(index for index, kind in enumerate(order) if kind in {File, UnitFile}) < order.index(Service)


def test_links_lead_to_units_that_want_it() -> None:
    """Each link is in the directory of the target that the unit's [Install] section names, as with `enable`."""
    links = [step for step in STEPS if isinstance(step, UnitLink)]
    assert links
    for link in links:
        directory, _, name = link.at.rpartition("/")
        assert directory == f"{layout.UNITS}/{sections(UNITS[name])['Install']['WantedBy']}.wants"
        assert link.target in WRITTEN
    installable = {unit for unit, text in UNITS.items() if "[Install]" in text}
    assert installable == {link.at.rpartition("/")[2] for link in links}


@pytest.mark.parametrize(
    ("file", "command"),
    [
        (layout.RESOLVER_SETTINGS, f"systemctl restart {layout.RESOLVER}"),
        (layout.CAPTURE_SETTINGS, f"systemctl reload {layout.CAPTURE}"),
    ],
)
def test_settings_say_how_a_change_of_them_is_used(file: Path, command: str) -> None:
    """The resolver reads its settings when it starts, for a reload is of manifests; rules change in a transaction."""
    (text,) = [step.content.decode() for step in STEPS if isinstance(step, File) and step.at == str(file)]
    assert f"\n# {command}\n" in text


def test_entries_are_made_only_where_they_are_read() -> None:
    """With manifests elsewhere there is no /etc/meshdns/entries."""
    elsewhere = steps(VmSettings({"manifests": ["/srv/entries"]}, {}), 60)
    assert Directory(str(layout.ENTRIES)) in STEPS
    assert Directory(str(layout.ENTRIES)) not in tuple(elsewhere)
