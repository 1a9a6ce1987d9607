"""What the commands say of themselves, and of mistakes, word for word. `make golden` writes it anew."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from meshdns.init.cli import meshdns, run

GOLDEN = Path(__file__).parent / "golden"
REWRITE = os.environ.get("MESHDNS_GOLDEN") == "rewrite"


def _commands(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command that `--help` leads to, groups among them."""
    yield words
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            if not below.hidden:
                yield from _commands(below, *words, name)


COMMANDS = tuple(_commands(meshdns))


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give all of them one width, an empty directory, and no settings from outside."""
    for variable in [name for name in os.environ if name.startswith(("MESHDNS_CAPTURE", "MESHDNS_RESOLVER", "ISTIO_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


def _compare(file: Path, text: str) -> None:
    if REWRITE:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def _file(words: tuple[str, ...]) -> Path:
    return GOLDEN / "help" / f"{'-'.join(('meshdns', *words))}.txt"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_is_the_golden_one(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The help of a command changes only on purpose."""
    assert run([*words, "--help"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert max(map(len, shown.out.splitlines())) <= 100
    _compare(_file(words), shown.out)


def test_no_golden_help_is_left_over() -> None:
    """Every golden file belongs to a command that still exists."""
    assert set((GOLDEN / "help").iterdir()) == {_file(words) for words in COMMANDS}


EXAMPLE = re.compile(r"\n  Examples?:\n((?:    .+\n)+)")


@pytest.mark.parametrize("words", [words for words in COMMANDS if words], ids=" ".join)
def test_help_shows_an_example_that_works(words: tuple[str, ...]) -> None:
    """The help of every command has an example of it, and the command line takes each word of that."""
    found = EXAMPLE.search(_file(words).read_text())
    assert found, "no example"
    lines = [shlex.split(line, comments=True) for line in found[1].splitlines()]
    assert any(line[: 1 + len(words)] == ["meshdns", *words] for line in lines)
    for line in lines:
        own = line[1 : next((at for at, word in enumerate(line) if word in {"|", ">", "&&"}), None)]
        command: click.Command = meshdns
        ctx = click.Context(command)
        while isinstance(command, click.Group):
            _, below, own = command.resolve_command(ctx, own)
            assert below is not None
            command = below
        command.make_parser(ctx).parse_args(own)


def test_an_option_that_does_not_exist_is_no_example() -> None:
    """What the test above goes by refuses an unknown option."""
    ctx = click.Context(meshdns)
    command = meshdns.get_command(ctx, "completion")
    assert command is not None
    with pytest.raises(click.NoSuchOption):
        command.make_parser(ctx).parse_args(["--no-such-option", "bash"])


MISTAKES = """\
meshdns nothing
meshdns capture nothing
meshdns capture plan --dns-prot 53
meshdns capture plan extra
meshdns capture plan --dns-port 70000
meshdns capture plan --dns-port 0
meshdns capture plan --dns-port x
meshdns capture plan --dns-port ''
meshdns capture plan --dns-port 15001 --dns-servers 10.0.0.1
meshdns capture plan --outbound-port -1
meshdns capture plan --outbound-ports 90-80
meshdns capture plan --outbound-ports 80,,81
meshdns capture plan --outbound-ports 80 --exclude-outbound-ports 1-100 --dns-servers 10.0.0.1
meshdns capture plan --outbound-cidr 10.0.0.1/8
meshdns capture plan --outbound-cidr ten
meshdns capture plan --exclude-outbound-cidr '*'
meshdns capture plan --dns-servers ns1.example
meshdns capture plan --dns-servers 10.0.0.1%
meshdns capture plan --dns-servers 'fe80::1%a b'
meshdns capture plan --resolv-conf nothing
meshdns capture plan --on-resolver-down ajar
meshdns capture plan --heartbeat-timeout 0
meshdns capture plan --heartbeat-timeout 1e3
meshdns capture plan --heartbeat-timeout 0.01 --dns-servers 10.0.0.1
meshdns capture plan --pool-rest x
meshdns capture plan --family ipv5
meshdns capture plan --backend ebpf
meshdns capture plan --format yaml
meshdns capture plan --proxy-uid nobody-is-called-so
meshdns capture plan --proxy-uid 4294967295
meshdns capture plan --proxy-gid no-group-is-called-so
meshdns capture plan --proxy-mark 0
meshdns capture plan --proxy-mark 0x100000000
meshdns capture plan --owner-group all,5 --dns-servers 10.0.0.1
meshdns capture plan --owner-group 5 --exclude-owner-group 5 --dns-servers 10.0.0.1
meshdns capture plan --exclude-uid ''
meshdns capture plan --exclude-interface 'a b'
meshdns capture plan --exclude-interface abcdefghijklmnop
meshdns capture plan --exclude-interface 'eth*' --dns-servers 10.0.0.1
meshdns capture plan --exclude-interface a --virtual-interface a --dns-servers 10.0.0.1
meshdns capture plan --inbound-mode none
meshdns capture plan --inbound-ports '*' --inbound-port 15001 --dns-servers 10.0.0.1
meshdns capture plan --inbound-ports '*' --inbound-mode tproxy --proxy-mark 1337 --dns-servers 10.0.0.1
meshdns capture plan --tproxy-mark 0
meshdns capture plan --tproxy-table 0
meshdns capture plan --tproxy-table 254 --dns-servers 10.0.0.1
meshdns capture plan --mesh-config nothing.yaml
meshdns capture plan --pod-annotations nothing
meshdns capture plan --config nothing.yaml
meshdns capture plan --config misspelt.yaml
meshdns capture plan --config broken.yaml
meshdns capture plan --config deep.yaml
meshdns capture plan --netns pid:x
meshdns capture plan --netns no-such-namespace
meshdns capture explain --uid 1000 --proto udp --dst 10.0.0.1
meshdns capture explain --uid 1000 --proto sctp --dst 10.0.0.1 --dport 53
meshdns capture explain --uid 1000 --proto udp --dst fe80::1% --dport 53
meshdns capture explain --uid 1000 --proto udp --dst fe80::1%eth0 --out-interface eth1 --dport 53
meshdns resolver run --listen 127.0.0.1:x
meshdns resolver run --pool4 240.240.0.1/16
meshdns resolver run --pool4 2001:2::/48
meshdns resolver run --ttl -1
meshdns resolver run --zone corp.example
meshdns resolver run --namespace 'a b'
meshdns resolver run --manifests ''
meshdns resolver query
"""


def _transcript(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    code = run(shlex.split(line)[1:])
    shown = capsys.readouterr()
    return f"$ {line}\n{shown.out}{shown.err}exit {code}\n"


def test_mistakes_get_the_golden_texts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each mistake is told in one line of stderr that names what, why and what would do; no traceback, no usage."""
    (tmp_path / "misspelt.yaml").write_text("dns-prot: 53\n")
    (tmp_path / "broken.yaml").write_text("dns-port: [\n")
    (tmp_path / "deep.yaml").write_text("dns-port: {a: 1}\n")
    transcripts = [_transcript(line, capsys) for line in MISTAKES.splitlines()]
    for transcript in transcripts:
        assert transcript.count("\n") == 3, transcript
        assert transcript.endswith(("exit 2\n", "exit 3\n"))
    _compare(GOLDEN / "mistakes.txt", "\n".join(transcripts))
