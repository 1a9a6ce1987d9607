"""A program's outcome comes back whole, whatever it reads and writes; and one that does not end is ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meshdns.capture.errors import PreflightError
from meshdns.capture.system.runner import MissingProgramError, Outcome, run

LONG = "x" * 3_000_000
"""More than a pipe holds (64 KiB), many times."""

OUTCOMES = {
    "nothing said, nothing heard": (["true"], "", Outcome(0, "", "")),
    "by its path": ([sys.executable, "-c", "print('here')"], "", Outcome(0, "here\n", "")),
    "a failure": (["sh", "-c", "echo no >&2; exit 3"], "", Outcome(3, "", "no\n")),
    "both streams": (["sh", "-c", "echo out; echo err >&2"], "", Outcome(0, "out\n", "err\n")),
    "more than a pipe holds, there and back": (["cat"], LONG, Outcome(0, LONG, "")),
    "both streams longer than a pipe": (["sh", "-c", "tee /dev/stderr"], LONG, Outcome(0, LONG, LONG)),
    "it does not listen": (["true"], LONG, Outcome(0, "", "")),
    "it reads /dev/stdin": (["cat", "/dev/stdin"], "rules", Outcome(0, "rules", "")),
    "no UTF-8": (["printf", r"a\377b"], "", Outcome(0, "a\N{REPLACEMENT CHARACTER}b", "")),
    "ended by a signal": (["sh", "-c", "kill -9 $$"], "", Outcome(-9, "", "")),
    "a pipe of its own breaks quietly": (["sh", "-c", "yes | head -1"], "", Outcome(0, "y\n", "")),
    "messages are in English": (["sh", "-c", "echo $LC_ALL"], "", Outcome(0, "C\n", "")),
}


@pytest.mark.parametrize(("command", "stdin", "outcome"), OUTCOMES.values(), ids=OUTCOMES)
def test_what_comes_back(command: list[str], stdin: str, outcome: Outcome) -> None:
    """Exit code and both streams are what the program gave, in any size."""
    assert run(command, stdin) == outcome


def test_a_program_that_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the program; one that nobody may execute is not taken for missing when a later one is meant."""
    with pytest.raises(MissingProgramError, match="no-such-program"):
        run(["no-such-program"])
    broken = tmp_path / "nft"
    broken.write_text("neither a script nor a binary")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightError, match="cannot run nft: Exec format error"):
        run(["nft"])


def test_a_program_that_does_not_end(tmp_path: Path) -> None:
    """After the time limit it is killed, and the error says how long was waited."""
    alive = tmp_path / "alive"
    with pytest.raises(PreflightError, match=r"cannot run sh: no end after 0\.3 s"):
        run(["sh", "-c", f"sleep 1.5; touch {alive}"], timeout_s=0.3)
    assert subprocess.run(["pgrep", "-f", str(alive)], check=False, capture_output=True).returncode == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_without_standard_streams(closed: str, tmp_path: Path) -> None:
    """The pipes work also where they get the numbers of stdin, stdout and stderr."""
    found = tmp_path / "found"
    script = (
        "from meshdns.capture.system.runner import run\n"
        "done = run(['sh', '-c', 'cat; echo err >&2'], 'said')\n"
        f"open({str(found)!r}, 'w').write(repr(done))"
    )
    subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, script], check=True)
    assert found.read_text() == repr(Outcome(0, "said", "err\n"))
