"""An error is one line on stderr and an exit code; never a usage block, never a traceback."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshdns.init.version import VERSION, head


def meshdns(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    command = [sys.executable, "-m", "meshdns.init.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-command"], "No such command 'no-such-command'."),
        (["resolvr"], "No such command 'resolvr': did you mean resolver?"),
        (["capture", "stat"], "No such command 'stat': did you mean status?"),
        (["vm", "onbord"], "No such command 'onbord': did you mean onboard?"),
        (["resolver", "rum"], "No such command 'rum': did you mean run?"),
        (["capture", "plan", "--no-such-option"], "No such option"),
        (["capture", "plan", "--dns-port", "0"], "'0' is not a port: give a number from 1 to 65535"),
        (["resolver", "run", "--listen", "localhost"], "'localhost' is not an address with a port"),
    ],
)
def test_a_usage_error_is_one_line(arguments: list[str], message: str) -> None:
    """What cannot be understood costs exit code 2 and one line that says why."""
    done = meshdns(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_help_is_quick_to_load() -> None:
    """`--help` imports no command, no YAML, no pyroute2, no dnslib."""
    code = (
        "import sys; from meshdns.init.cli import run; run(['--help']); "
        "print(sorted({'yaml', 'pyroute2', 'dnslib', 'rich', 'asyncio'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr.strip() == "[]"
    assert "capture" in done.stdout


def test_version_names_the_commit_of_the_checkout() -> None:
    """`--version` says which code this is: the version, and the commit that the checkout is at."""
    tree = Path(__file__).parents[2]
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "rev-parse", "HEAD"], cwd=tree, capture_output=True, text=True, check=True
    )
    assert meshdns("--version").stdout == f"meshdns {VERSION} (commit {done.stdout[:12]})\n"


ID = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"HEAD": f"{ID}\n"}, ID),
        ({"HEAD": "ref: refs/heads/main\n", "refs/heads/main": f"{ID}\n"}, ID),
        (
            {
                "HEAD": "ref: refs/heads/main\n",
                "packed-refs": f"# pack-refs\n{'f' * 40} refs/x\n{ID} refs/heads/main\n",
            },
            ID,
        ),
        ({"HEAD": "ref: refs/heads/main\n", "packed-refs": f"{ID} refs/heads/mainly\n"}, None),
        ({"HEAD": "ref: refs/heads/main\n"}, None),
        ({"HEAD": "rubbish\n"}, None),
        ({"HEAD": "\x80"}, None),
        ({}, None),
    ],
)
def test_head_is_read_as_git_keeps_it(files: dict[str, str], expected: str | None, tmp_path: Path) -> None:
    """A detached HEAD, a loose or a packed branch gives its commit; whatever else stands there gives none."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    assert head(tmp_path) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("meshdns cap", {"capture"}),
        ("meshdns capture inst", {"install"}),
        ("meshdns capture conf", {"confirm"}),
        ("meshdns resolver dump -o h", {"hosts"}),
        ("meshdns capture plan --on-resolver-down cl", {"closed"}),
    ],
)
def test_a_shell_completes_commands_and_values(words: str, expected: set[str]) -> None:
    """What `meshdns completion` prints makes bash offer commands, late ones too, and the values of options."""
    script = (
        f'eval "$(meshdns completion bash)"; COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; '
        '_meshdns_completion meshdns; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=30, env={"PATH": path}
    )
    assert set(done.stdout.split()) == expected, done.stderr


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["no-such-command"], 2)])
def test_output_that_cannot_be_written_is_told(unbuffered: str, arguments: list[str], code: int) -> None:
    """A full disk is told with the exit code that the command came to, whether Python writes at once or at the end."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "meshdns.init.cli", *arguments],
            stdout=full if code == 0 else subprocess.PIPE,
            stderr=full if code else subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    told = "meshdns: cannot write the output: no space left on device: the command itself ended with 0\n"
    assert (done.returncode, done.stderr) == ((3, told) if code == 0 else (code, None))


def test_a_reader_who_is_slow_gets_everything() -> None:
    """Also where somebody has made the pipe non-blocking, all that is printed arrives."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "meshdns.init.cli", "capture", "install", "--help"]
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        time.sleep(0.5)  # until its output is more than the pipe holds
        with os.fdopen(reader, "rb") as pipe:
            text = pipe.read()
        assert process.stderr
        assert (process.wait(30), process.stderr.read()) == (0, b"")
    assert text == subprocess.run(command, capture_output=True, check=True, timeout=30).stdout


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("meshdns --help | true", 0),
        ("meshdns capture status --check | true", 10),
        ("meshdns no-such-command 2>&1 | true", 2),
        ("meshdns capture plan --family ipv4 --dns-servers 192.0.2.1 >&- | true", 0),
        ("meshdns capture plan --family ipv4 --dns-servers 192.0.2.1 >&- 2>&- | true", 0),
    ],
)
def test_a_reader_who_has_left_changes_no_exit_code(script: str, code: int) -> None:
    """What a command came to is what it came to, with nobody to read it, or nowhere to write."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["unshare", "-n", "bash", "-c", f'{script}; exit "${{PIPESTATUS[0]}}"']
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env={"PATH": path})
    assert (done.returncode, done.stderr) == (code, "")
