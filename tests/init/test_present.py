"""What is printed for people on a terminal, and for programs in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from meshdns.init.present import count

PROGRAM = """
import sys
from meshdns.init.present import heading, table, waiting
heading("one")
with waiting("reading"):
    table(["host"], [["a.internal"]])
"""


def _on_a_terminal(environment: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=theirs, stderr=theirs, env={**os.environ, **environment}
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # EIO: the other end has been closed
            pass
        assert process.wait() == 0
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize(
    ("environment", "bold", "waits"),
    [
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "dumb", "NO_COLOR": "1"}, False, False),
    ],
)
def test_a_terminal_gets_what_it_can_show(environment: dict[str, str], *, bold: bool, waits: bool) -> None:
    """NO_COLOR, unless it is empty, takes the colours away; a dumb terminal gets no line that is taken back."""
    shown = _on_a_terminal(environment)
    assert ("\x1b[1m" in shown) is bold
    assert ("reading …" in shown, "\r\x1b[K" in shown) == (waits, waits)


def test_a_pipe_gets_plain_text() -> None:
    """What is piped has no escape sequence, and nothing on stderr."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == ("one\nhost\na.internal\n", "")


@pytest.mark.parametrize(("number", "text"), [(0, "0 times"), (1, "1 time"), (2, "2 times")])
def test_a_number_has_its_noun(number: int, text: str) -> None:
    """One is one of it; none and many are several."""
    assert count(number, "time") == text
