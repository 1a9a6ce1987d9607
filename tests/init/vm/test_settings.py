"""What a VM's settings files say, and who has said it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from meshdns.init.commands.capture import install
from meshdns.init.commands.resolver import run
from meshdns.init.vm.settings import Given, VmSettings, around_the_stub, as_file, parsed, vm_settings

MESH_CONFIG = """
defaultConfig:
  proxyMetadata: {ISTIO_META_DNS_CAPTURE: "false", ISTIO_META_DNS_AUTO_ALLOCATE: "false"}
"""


@pytest.fixture
def settle(tmp_path: Path) -> Callable[..., VmSettings]:
    """Give a function that settles what files with these texts and these variables say."""

    def settle(environment: Mapping[str, str], *, manifests: tuple[Path, ...] = (), **texts: str | None) -> VmSettings:
        files: dict[str, Path | None] = {"resolver_config": None, "capture_config": None, "mesh_config": None}
        for name, text in texts.items():
            if text is not None:
                files[name] = tmp_path / name
                (tmp_path / name).write_text(text)
        return vm_settings(
            Given(
                manifests=manifests,
                resolver_config=files["resolver_config"],
                capture_config=files["capture_config"],
                mesh_config=files["mesh_config"],
            ),
            environment,
        )

    return settle


def understood(command: click.Command, values: Mapping[str, Any], tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "settings.yaml"
    file.write_bytes(as_file(values, "some.service"))
    return parsed(command, file)


@pytest.mark.parametrize(
    ("environment", "capture_config", "mesh_config", "captures"),
    [
        ({}, None, None, True),
        ({}, None, MESH_CONFIG, False),
        ({"ISTIO_META_DNS_CAPTURE": "true"}, None, MESH_CONFIG, True),
        ({"ISTIO_META_DNS_CAPTURE": "true"}, "dns: false", MESH_CONFIG, False),
        ({"MESHDNS_CAPTURE_DNS": "true", "ISTIO_META_DNS_CAPTURE": "false"}, "dns: false", MESH_CONFIG, True),
    ],
)
def test_the_nearest_to_the_operator_wins(
    settle: Callable[..., VmSettings],
    tmp_path: Path,
    environment: Mapping[str, str],
    capture_config: str | None,
    mesh_config: str | None,
    captures: bool,  # noqa: FBT001
) -> None:
    """MESHDNS_ variables go before the given file, that before Istio's variables, they before mesh config."""
    settings = settle(environment, capture_config=capture_config, mesh_config=mesh_config)
    assert understood(install, settings.capture, tmp_path)["dns"] is captures


def test_settings_reach_the_command_that_reads_them(settle: Callable[..., VmSettings], tmp_path: Path) -> None:
    """Every value of a given file or variable is what the command understands, whatever its type."""
    settings = settle(
        {"MESHDNS_RESOLVER_TTL": "7"},
        resolver_config="zone: [a.example=192.0.2.1, b.example=192.0.2.2]\nanswer-endpoints: true\n",
        capture_config="exclude-uid: [0, 4242]\non-resolver-down: closed\n",
        mesh_config=MESH_CONFIG,
    )
    resolver = understood(run, settings.resolver, tmp_path)
    assert (resolver["ttl"], resolver["answer_endpoints"], resolver["auto_allocate"]) == (7, True, False)
    assert [name for name, _ in resolver["zone"]] == ["a.example", "b.example"]
    capture = understood(install, settings.capture, tmp_path)
    assert (capture["exclude_uid"], capture["on_resolver_down"]) == ((0, 4242), "closed")


@pytest.mark.parametrize(
    ("manifests", "resolver_config", "expected"),
    [
        ((), None, ["/etc/meshdns/entries"]),
        ((), "manifests: /srv/entries", ["/srv/entries"]),
        ((Path("/opt/a"), Path("/opt/b")), "manifests: /srv/entries", ["/opt/a", "/opt/b"]),
    ],
)
def test_manifests_are_where_they_are_said_to_be(
    settle: Callable[..., VmSettings],
    tmp_path: Path,
    manifests: tuple[Path, ...],
    resolver_config: str | None,
    expected: list[str],
) -> None:
    """The flag goes before the file, that before /etc/meshdns/entries."""
    settings = settle({}, manifests=manifests, resolver_config=resolver_config)
    assert [str(path) for path in understood(run, settings.resolver, tmp_path)["manifests"]] == expected


def test_a_trial_is_no_setting(settle: Callable[..., VmSettings]) -> None:
    """What belongs to one run of `install` does not get into the file that a unit installs with at every boot."""
    settings = settle({"MESHDNS_CAPTURE_NETNS": "other"}, capture_config="commit-timeout: 5\nexclude-uid: 1\n")
    assert set(settings.capture) == {"proxy-uid", "proxy-gid", "exclude-uid"}


def test_a_key_that_nobody_reads_is_refused_with_its_place(settle: Callable[..., VmSettings]) -> None:
    """A misspelt key in a given file is an error that names file and line."""
    with pytest.raises(click.UsageError, match=r"capture_config:2: unknown key 'dns-prt': did you mean dns-port"):
        settle({}, capture_config="dns: true\ndns-prt: 1\n")


@pytest.mark.parametrize(
    ("nameservers", "stub_runs", "captured"),
    [
        ("nameserver 127.0.0.53\n", True, ["resolv-conf", "127.0.0.53"]),
        ("nameserver 127.0.0.54\nnameserver 192.0.2.1\n", True, ["resolv-conf", "127.0.0.54", "192.0.2.1"]),
        ("nameserver 127.0.0.53\n", False, None),
        ("nameserver 192.0.2.53\n", True, None),
    ],
)
def test_around_resolveds_stub(
    tmp_path: Path, *, nameservers: str, stub_runs: bool, captured: list[str] | None
) -> None:
    """Where resolv.conf lists systemd-resolved's stub, whom it asks is asked by the resolver and captured beside it."""
    resolv_conf, behind = tmp_path / "resolv.conf", tmp_path / "behind"
    resolv_conf.write_text(nameservers)
    if stub_runs:
        behind.write_text("nameserver 192.0.2.53\n")
    found = around_the_stub(resolv_conf, behind)
    asked = {"resolv-conf": str(behind)}
    assert found == (VmSettings({}, {}) if captured is None else VmSettings(asked, {**asked, "dns-servers": captured}))
