"""Flag, then environment, then file, then default; and nothing that is misspelt goes unnoticed."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from meshdns.init.errors import ConfigurationError
from meshdns.init.options import Settings, located
from meshdns.init.parameters import PORT

SETTINGS = Settings("sample")


@click.command()
@SETTINGS.file_option()
@SETTINGS.option("--dns-port", type=PORT, default=15053)
@SETTINGS.option("--ports", type=PORT, many=True)
@SETTINGS.option("--relay/--no-relay", default=True)
def sample(dns_port: int, ports: tuple[int, ...], relay: bool) -> None:  # noqa: FBT001 - click's callback
    """Print what was read."""
    click.echo(f"{dns_port} {ports} {relay}")


def read(arguments: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run `sample` and return what it printed."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    outcome = CliRunner().invoke(sample, arguments, standalone_mode=False)
    if outcome.exception:
        raise outcome.exception
    return outcome.output.strip()


@pytest.mark.parametrize(
    ("arguments", "environment", "shown"),
    [
        ([], {}, "15053 () True"),
        (["--dns-port", "1"], {"MESHDNS_SAMPLE_DNS_PORT": "2"}, "1 () True"),
        ([], {"MESHDNS_SAMPLE_DNS_PORT": "2"}, "2 () True"),
        (["--ports", "1,2", "--ports", "3"], {}, "15053 (1, 2, 3) True"),
        ([], {"MESHDNS_SAMPLE_PORTS": "4,5"}, "15053 (4, 5) True"),
        (["--no-relay"], {"MESHDNS_SAMPLE_RELAY": "true"}, "15053 () False"),
        ([], {"MESHDNS_SAMPLE_RELAY": "false"}, "15053 () False"),
        (["--config", "FILE"], {}, "7 (8, 9) False"),
        (["--config", "FILE", "--dns-port", "1"], {"MESHDNS_SAMPLE_PORTS": "2"}, "1 (2,) False"),
    ],
)
def test_the_first_source_wins(
    arguments: list[str], environment: dict[str, str], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag beats the environment, which beats the file, which beats the default; each setting by itself."""
    file = tmp_path / "settings.yaml"
    file.write_text("dns-port: 7\nports: [8, 9]\nrelay: false\n")
    assert read([str(file) if part == "FILE" else part for part in arguments], environment, monkeypatch) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dns-prot: 7\n", ":1: unknown key 'dns-prot': did you mean dns-port?"),
        ("dns-port: 7\nxyz: 1\n", ":2: unknown key 'xyz'"),
        ("dns-port: 0\n", ":1: dns-port: '0' is not a port: give a number from 1 to 65535"),
        ("relay: true\nports: [8, x]\n", ":2: ports: 'x' is not a port: give a number from 1 to 65535"),
        ("dns-port: {a: 1}\n", ":1: dns-port: must be a value or a list"),
        ("dns-port: [\n", "cannot parse"),
        ("dns-port: [7]\n", ":1: dns-port: takes one value, not a list"),
        ("ports: [8]\nrelay: [true]\n", ":2: relay: takes one value, not a list"),
    ],
)
def test_a_bad_settings_file_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown key, a value of the wrong kind or broken YAML is a usage error that names the line."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(click.UsageError) as refusal:
        read(["--config", str(file)], {}, monkeypatch)
    said = located(refusal.value)
    assert message in said
    assert "--config" not in said


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a bad value in the environment the variable is named, and not the flag that nobody gave."""
    with pytest.raises(click.UsageError) as refusal:
        read([], {"MESHDNS_SAMPLE_DNS_PORT": "abc"}, monkeypatch)
    assert located(refusal.value).startswith("MESHDNS_SAMPLE_DNS_PORT: 'abc' is not a port")
    with pytest.raises(click.UsageError) as refusal:
        read(["--dns-port", "abc"], {}, monkeypatch)
    assert located(refusal.value).startswith("Invalid value for '--dns-port'")


@pytest.mark.parametrize("text", ["ports: 8\n", 'ports: "8"\n', "ports: [8]\n"])
def test_one_value_of_many_needs_no_list(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that takes several values takes one from the file as well, as it does from a flag."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    assert read(["--config", str(file)], {}, monkeypatch) == "15053 (8,) True"
    file.write_text('ports: "8, 9"\n')
    assert read(["--config", str(file)], {}, monkeypatch) == "15053 (8, 9) True"


def test_a_misspelt_variable_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """A variable with our prefix that nothing reads is named, with the nearest one that is read."""
    SETTINGS.check_environment({"MESHDNS_SAMPLE_DNS_PROT": "1"})
    assert "nothing reads MESHDNS_SAMPLE_DNS_PROT: did you mean MESHDNS_SAMPLE_DNS_PORT?" in capsys.readouterr().err


def test_what_kubelet_sets_is_no_misspelling(capsys: pytest.CaptureFixture[str]) -> None:
    """The variables that kubelet sets for a Service called meshdns-sample are passed over in silence."""
    SETTINGS.check_environment(
        {
            "MESHDNS_SAMPLE_SERVICE_HOST": "10.0.0.1",
            "MESHDNS_SAMPLE_SERVICE_PORT_HTTP": "80",
            "MESHDNS_SAMPLE_PORT": "tcp://10.0.0.1:80",
            "MESHDNS_SAMPLE_PORT_80_TCP_ADDR": "10.0.0.1",
        }
    )
    assert capsys.readouterr().err == ""


def test_an_empty_variable_is_refused() -> None:
    """An empty value is an error, not the default."""
    with pytest.raises(ConfigurationError, match="MESHDNS_SAMPLE_DNS_PORT: it is empty"):
        SETTINGS.check_environment({"MESHDNS_SAMPLE_DNS_PORT": ""})
