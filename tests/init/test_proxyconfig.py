"""Istio's settings count where its users write them, each in its place between our own; every bad one is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshdns.init.cli import run
from meshdns.init.commands import resolver
from meshdns.init.errors import ConfigurationError
from meshdns.init.proxyconfig import ANNOTATIONS, METADATA, proxy_settings

CAPTURE, ALLOCATE = "ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_AUTO_ALLOCATE"

OPERATOR = """\
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  meshConfig:
    defaultConfig:
      proxyMetadata:
        ISTIO_META_DNS_CAPTURE: "false"
        ISTIO_META_DNS_AUTO_ALLOCATE: "false"
"""
MESH = "defaultConfig:\n  proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'false', OTHER: [1, 2]}\n"
CONFIG_MAP = "kind: ConfigMap\ndata:\n  meshNetworks: 'networks: {}'\n  mesh: |\n" + "".join(
    f"    {line}\n" for line in MESH.splitlines()
)

MESH_CONFIGS: dict[str, tuple[str, dict[str, object]]] = {
    "an IstioOperator": (OPERATOR, {"dns": False, "auto-allocate": False}),
    "mesh config": (MESH, {"dns": False}),
    "Istio's ConfigMap": (CONFIG_MAP, {"dns": False}),
    "values of the Helm chart": (
        "meshConfig:\n" + "".join(f"  {line}\n" for line in MESH.splitlines()),
        {"dns": False},
    ),
    "values of an operator win": (
        OPERATOR + "  values: {meshConfig: {defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}}}}\n",
        {"dns": True, "auto-allocate": False},
    ),
    "snake case": ("default_config: {proxy_metadata: {ISTIO_META_DNS_CAPTURE: t}}", {"dns": True}),
    "a later document wins": (MESH + "---\n" + MESH.replace("'false'", "'true'"), {"dns": True}),
    "JSON": ('{"defaultConfig": {"proxyMetadata": {"ISTIO_META_DNS_AUTO_ALLOCATE": "0"}}}', {"auto-allocate": False}),
    "how inbound TCP is captured": ("defaultConfig: {interceptionMode: TPROXY}", {"inbound-mode": "tproxy"}),
    "the same in snake case": ("default_config: {interception_mode: REDIRECT}", {"inbound-mode": "redirect"}),
    "other settings": ("accessLogFile: /dev/stdout\ndefaultConfig: {concurrency: 2}\n", {}),
    "no metadata": ("defaultConfig: {proxyMetadata: }\n", {}),
    "other metadata": ("defaultConfig: {proxyMetadata: {PROXY_CONFIG_XDS_AGENT: 'true'}}\n", {}),
    "an operator without mesh config": ("kind: IstioOperator\nspec: {profile: minimal}\n", {}),
    "a bare operator": ("kind: IstioOperator\n", {}),
    "a ConfigMap of somebody else": ("kind: ConfigMap\ndata: {other: '1'}\n", {}),
    "nothing": ("", {}),
}


def _settings(
    tmp_path: Path, mesh: str = "", annotations: str = "", environment: dict[str, str] | None = None
) -> dict[str, object]:
    mesh_file, annotations_file = tmp_path / "mesh.yaml", tmp_path / "annotations"
    mesh_file.write_text(mesh)
    annotations_file.write_text(annotations)
    found = proxy_settings(mesh_file, annotations_file, environment or {})
    return {option: setting.value for option, setting in found.settings.items()}


@pytest.mark.parametrize("name", MESH_CONFIGS)
def test_mesh_config_is_read_in_every_form(name: str, tmp_path: Path) -> None:
    """The two keys are found in `defaultConfig.proxyMetadata`, whatever is around it; an absent key says nothing."""
    mesh, expected = MESH_CONFIGS[name]
    assert _settings(tmp_path, mesh) == expected


BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
NO_BOOLEANS = (
    "",
    " ",
    "yes",
    "no",
    "on",
    "off",
    "2",
    "tRUE",
    "truE",
    " true",
    "true ",
    "y",
    "null",
    "enabled",
    "TRue",
    "00",
)


@pytest.mark.parametrize("text", BOOLEANS)
def test_booleans_are_those_of_go(text: str, tmp_path: Path) -> None:
    """Each spelling that strconv.ParseBool takes is taken, in every place."""
    expected = {"dns": BOOLEANS[text]}
    assert _settings(tmp_path, MESH.replace("'false'", f"'{text}'")) == expected
    assert _settings(tmp_path, MESH.replace("'false'", text)) == expected
    assert _settings(tmp_path, environment={CAPTURE: text}) == expected
    assert _settings(tmp_path, annotations=_config(f"{CAPTURE}: '{text}'")) == expected


@pytest.mark.parametrize("text", NO_BOOLEANS)
@pytest.mark.parametrize("name", [CAPTURE, ALLOCATE])
def test_nothing_else_is_a_boolean(name: str, text: str, tmp_path: Path) -> None:
    """Any other spelling is an error that names key, place and value, in every place."""
    mesh, annotations = f"defaultConfig:\n  proxyMetadata:\n    {name}: '{text}'\n", _config(f"{name}: '{text}'")
    for sources, place in (
        ({"mesh": mesh}, f"{tmp_path}/mesh.yaml:3"),
        ({"annotations": annotations}, f"{tmp_path}/annotations:1: proxy.istio.io/config:2"),
        ({"environment": {name: text}}, "the environment"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            _settings(tmp_path, **sources)
        expected = f"cannot use {name} in {place}: {text!r} is not a boolean: write true or false"
        assert str(refused.value) == expected


def _config(metadata: str) -> str:
    """Return an annotation with a proxy config, as the downward API writes it."""
    return f'proxy.istio.io/config="proxyMetadata:\\n  {metadata}\\n"\n'


def _annotation(name: str, value: str) -> str:
    return f'traffic.sidecar.istio.io/{name}="{value}"\n'


ORDER: dict[str, tuple[str, str, dict[str, str], object]] = {
    "nothing": ("", "", {}, None),
    "mesh config": (MESH, "", {}, False),
    "a variable before mesh config": (MESH, "", {CAPTURE: "1"}, True),
    "an annotation before mesh config": (MESH, _config(f"{CAPTURE}: t"), {}, True),
    "an annotation before a variable": ("", _config(f"{CAPTURE}: t"), {CAPTURE: "0"}, True),
    "an annotation that says nothing": (MESH, _config("OTHER: x"), {}, False),
}


@pytest.mark.parametrize("name", ORDER)
def test_an_annotation_goes_before_a_variable_and_that_before_mesh_config(name: str, tmp_path: Path) -> None:
    """The nearest to the pod wins; where it says nothing, the next one counts."""
    mesh, annotations, environment, expected = ORDER[name]
    assert _settings(tmp_path, mesh, annotations, environment).get("dns") is expected


ANNOTATED: dict[str, tuple[str, str, object]] = {
    "includeOutboundIPRanges": ("*", "outbound_cidrs", ["0.0.0.0/0", "::/0"]),
    "includeOutboundIPRanges ": ("10.0.0.0/8, fd00::/8", "outbound_cidrs", ["10.0.0.0/8", "fd00::/8"]),
    "includeOutboundIPRanges  ": ("", "outbound_cidrs", ["240.240.0.0/16", "2001:2::/48"]),
    "excludeOutboundIPRanges": ("10.0.0.0/8", "exclude_outbound_cidrs", ["10.0.0.0/8"]),
    "includeOutboundPorts": ("80,8000-8010", "outbound_ports", ["80", "8000-8010"]),
    "excludeOutboundPorts": ("443", "exclude_outbound_ports", ["443"]),
    "includeInboundPorts": ("*", "inbound_ports", ["1-65535"]),
    "includeInboundPorts ": ("80, 81", "inbound_ports", ["80", "81"]),
    "includeInboundPorts  ": ("", "inbound_ports", []),
    "excludeInboundPorts": ("15020", "exclude_inbound_ports", ["15020"]),
    "excludeInterfaces": ("net1,net2", "exclude_interfaces", ["net1", "net2"]),
    "kubevirtInterfaces": ("k6t-0", "virtual_interfaces", ["k6t-0"]),
}


@pytest.mark.parametrize("name", ANNOTATED)
def test_traffic_annotations_are_options(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each annotation traffic.sidecar.istio.io/… is the option of the same meaning."""
    value, key, expected = ANNOTATED[name]
    assert _planned(tmp_path, capsys, _annotation(name.strip(), value))[key] == expected


def test_every_annotation_has_its_row() -> None:
    """The table above leaves out no annotation that is read."""
    rows = {f"traffic.sidecar.istio.io/{name.strip()}" for name in ANNOTATED}
    assert rows == set(ANNOTATIONS) - {"istio.io/reroute-virtual-interfaces"}


def test_the_newer_name_of_virtual_interfaces_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Istio deprecated the one for the other."""
    text = _annotation("kubevirtInterfaces", "old0") + 'istio.io/reroute-virtual-interfaces="new0"\n'
    assert _planned(tmp_path, capsys, text)["virtual_interfaces"] == ["new0"]


@pytest.mark.parametrize("mode", ["REDIRECT", "TPROXY"])
def test_the_interception_mode_is_the_inbound_mode(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """sidecar.istio.io/interceptionMode says how inbound TCP reaches the proxy."""
    text = f'sidecar.istio.io/interceptionMode="{mode}"\n' + _annotation("includeInboundPorts", "*")
    assert _planned(tmp_path, capsys, text)["inbound_mode"] == mode.lower()


def test_an_annotation_of_its_own_goes_before_the_proxy_config(tmp_path: Path) -> None:
    """Istio reads sidecar.istio.io/interceptionMode first, then proxy.istio.io/config, then mesh config."""
    config = 'proxy.istio.io/config="interceptionMode: REDIRECT"\n'
    assert _settings(tmp_path, "defaultConfig: {interceptionMode: TPROXY}", config)["inbound-mode"] == "redirect"
    own = 'sidecar.istio.io/interceptionMode="TPROXY"\n'
    assert _settings(tmp_path, annotations=own + config)["inbound-mode"] == "tproxy"


def _planned(tmp_path: Path, capsys: pytest.CaptureFixture[str], annotations: str, *options: str) -> dict[str, object]:
    file = tmp_path / "annotations"
    file.write_text(annotations)
    words = ["--family", "both", "--dns-servers", "10.96.0.10", "--format", "json"]
    assert run(["capture", "plan", *words, "--pod-annotations", str(file), *options]) == 0
    planned: dict[str, object] = json.loads(capsys.readouterr().out)["spec"]
    return planned


BAD_ANNOTATIONS = {
    "host bits": (_annotation("includeOutboundIPRanges", "10.0.0.1/8"), "has host bits set: write 10.0.0.0/8"),
    "no network": (_annotation("excludeOutboundIPRanges", "ten"), "'ten' is not a network"),
    "all excluded": (_annotation("excludeOutboundIPRanges", "*"), "'*' is not a network"),
    "no port": (_annotation("excludeInboundPorts", "http"), "'http' is not a port"),
    "port 0": (_annotation("includeInboundPorts", "0"), "'0' is not a port"),
    "a port too high": (_annotation("includeOutboundPorts", "65536"), "'65536' is not a port"),
    "a port range upside down": (_annotation("excludeOutboundPorts", "9-8"), "'9-8' is empty: write 8-9"),
    "an empty item": (_annotation("includeInboundPorts", "80,,81"), "has an empty item"),
    "an interface with an option": (_annotation("excludeInterfaces", "eth0 -j ACCEPT"), "is not an interface name"),
    "an interface too long": (_annotation("kubevirtInterfaces", "abcdefghijklmnop"), "too long for an interface name"),
    "a mode of nothing": ('sidecar.istio.io/interceptionMode="NONE"', "NONE captures nothing"),
    "a misspelt mode": ('sidecar.istio.io/interceptionMode="Tproxy"', "'Tproxy' is neither REDIRECT nor TPROXY"),
    "broken YAML": ('proxy.istio.io/config="a: [1"', "annotations:1: proxy.istio.io/config:1: cannot parse"),
    "metadata that is a list": ('proxy.istio.io/config="proxyMetadata: [1]"', "proxyMetadata must be a mapping"),
    "a value that is a mapping": (_config("ISTIO_META_DNS_CAPTURE: {a: b}"), 'give "true" or "false"'),
    "a plain null": (_config("ISTIO_META_DNS_CAPTURE: "), 'give "true" or "false"'),
    "no annotation": ("a: b", "not an annotation"),
}
BAD_MESH_CONFIGS = {
    "broken YAML": ("a: [1", "mesh.yaml:1: cannot parse"),
    "a list": ("[1]", "a document must be a mapping"),
    "another kind": ("kind: Deployment", "mesh.yaml:1: no mesh config in kind Deployment"),
    "defaultConfig is text": ("defaultConfig: x", "mesh.yaml:1: defaultConfig must be a mapping"),
    "proxyMetadata is text": ("defaultConfig:\n  proxyMetadata: x", "mesh.yaml:2: proxyMetadata must be a mapping"),
    "spec is a list": ("kind: IstioOperator\nspec: []", "mesh.yaml:2: spec must be a mapping"),
    "meshConfig is text": ("kind: IstioOperator\nspec: {meshConfig: x}", "meshConfig must be a mapping"),
    "a mode of nothing": (
        "defaultConfig: {interceptionMode: NONE}",
        "interceptionMode in FILE:1: NONE captures nothing",
    ),
    "a mode that is a number": ("defaultConfig: {interceptionMode: [1]}", "is neither REDIRECT nor TPROXY"),
    "a key twice": ("defaultConfig: {}\ndefaultConfig: {}", "mesh.yaml:2"),
    "broken YAML in a ConfigMap": ("kind: ConfigMap\ndata: {mesh: 'a: ['}", "mesh.yaml:2: data.mesh:1: cannot parse"),
    "a value that is a list": (
        f"defaultConfig: {{proxyMetadata: {{{CAPTURE}: [true]}}}}",
        f'{CAPTURE} in FILE:1: give "true" or "false"',
    ),
}


@pytest.mark.parametrize("name", BAD_ANNOTATIONS)
def test_a_bad_annotation_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 and one line that names annotation, file, line and value."""
    text, told = BAD_ANNOTATIONS[name]
    _refused(tmp_path / "annotations", "--pod-annotations", text, told, capsys)


@pytest.mark.parametrize("name", BAD_MESH_CONFIGS)
def test_a_bad_mesh_config_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 and one line that names file, line and reason."""
    text, told = BAD_MESH_CONFIGS[name]
    _refused(tmp_path / "mesh.yaml", "--mesh-config", text, told, capsys)


def _refused(file: Path, option: str, text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(text)
    for command in (["capture", "plan"], ["capture", "install"], ["resolver", "run"]):
        assert run([*command, option, str(file)]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.count("\n") == 1
        assert told.replace("FILE", str(file)) in shown.err
        assert str(file) in shown.err


def test_a_misspelt_annotation_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What looks like one of Istio's and is none changes nothing and is told."""
    file = tmp_path / "annotations"
    file.write_text(_annotation("excludeOutboundPort", "80") + 'other="1"\n')
    words = ["--family", "ipv4", "--dns-servers", "10.96.0.10", "--pod-annotations", str(file)]
    assert run(["capture", "plan", *words]) == 0
    shown = capsys.readouterr().err
    assert shown.startswith(
        "meshdns: warning: nothing reads the annotation traffic.sidecar.istio.io/excludeOutboundPort "
    )
    assert "did you mean traffic.sidecar.istio.io/excludeOutboundPorts?" in shown


OURS: dict[str, tuple[list[str], dict[str, str], str, bool]] = {
    "Istio alone": ([], {}, "", False),
    "a flag": (["--dns"], {}, "", True),
    "a variable": ([], {"MESHDNS_CAPTURE_DNS": "true"}, "", True),
    "a file": ([], {}, "dns: true\n", True),
    "a file that says nothing of it": ([], {}, "dns-port: 5300\n", False),
    "a flag before a variable": (["--no-dns"], {"MESHDNS_CAPTURE_DNS": "true"}, "", False),
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("first", ["config", "mesh"])
def test_ours_go_before_istios(
    name: str, first: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag, MESHDNS_ variable, `--config`, and only then Istio's settings, in whatever order the files are given."""
    options, environment, config, expected = OURS[name]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "mesh.yaml").write_text(MESH)
    files = [["--config", str(tmp_path / "config.yaml")], ["--mesh-config", str(tmp_path / "mesh.yaml")]]
    words = [word for pair in (files if first == "config" else files[::-1]) for word in pair]
    assert _planned(tmp_path, capsys, _annotation("includeInboundPorts", "80"), *words, *options)["dns"] is expected


def test_a_file_may_name_istios_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`mesh-config` is a key of `--config` like every other option."""
    (tmp_path / "mesh.yaml").write_text(MESH)
    (tmp_path / "config.yaml").write_text(f"mesh-config: {tmp_path}/mesh.yaml\n")
    assert _planned(tmp_path, capsys, "", "--config", str(tmp_path / "config.yaml"))["dns"] is False


@pytest.mark.parametrize(("options", "expected"), [([], False), (["--auto-allocate"], True)])
def test_the_resolver_takes_auto_allocate(options: list[str], expected: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a row
    """`resolver run` leases nothing where Istio's setting is "false", unless a flag says otherwise."""
    (tmp_path / "mesh.yaml").write_text(OPERATOR)
    words = ["--mesh-config", str(tmp_path / "mesh.yaml"), *options]
    with resolver.run.make_context("run", words, help_option_names=[]) as ctx:
        assert ctx.params["auto_allocate"] is expected


def test_the_documents_table_names_everything() -> None:
    """docs/istio-settings.md sets every key and annotation that is read beside its option."""
    text = (Path(__file__).parents[2] / "docs" / "istio-settings.md").read_text()
    pairs = [*METADATA.items(), *((name, option) for name, (option, _) in ANNOTATIONS.items())]
    for name, option in pairs:
        row = next(line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line)
        assert f"`--{option}`" in row


def test_no_dns_rules_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where Istio's setting keeps DNS rules out, the plan has none and says whose setting it was."""
    (tmp_path / "mesh.yaml").write_text(OPERATOR)
    words = ["capture", "plan", "--family", "ipv4", "--dns-servers", "10.96.0.10"]
    assert run([*words, "--mesh-config", str(tmp_path / "mesh.yaml")]) == 0
    shown = capsys.readouterr().out
    assert f"# no DNS rules: {CAPTURE} in {tmp_path}/mesh.yaml:7 is false\n" in shown
    assert "nat-dns" not in shown
    assert run([*words, "--no-dns"]) == 0
    assert "# no DNS rules: --no-dns\n" in capsys.readouterr().out
