"""An error is one line on stderr and an exit code; never a usage block, never a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest


def meshdns(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    command = [sys.executable, "-m", "meshdns.init.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-command"], "No such command 'no-such-command'."),
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
