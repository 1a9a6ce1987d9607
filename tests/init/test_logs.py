"""How log lines look and where they go; of lines for files and pipes, nobody waits for who reads them."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshdns.init.logs import LINES_HELD, line_writer

LINE = "x" * 99
WITHIN_S = 20.0


TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
LOGGING = """
import logging, sys
from meshdns.init.logs import set_up
set_up("info", sys.argv[1])
logging.getLogger("meshdns.resolver").warning("%d %%", 1)
"""


def logged(path: Path, style: str, journal: str | None = None) -> str:
    """Return what one record looks like in a file; `journal` is JOURNAL_STREAM, where `{}` stands for that file."""
    with path.open("wb") as file:
        found = os.fstat(file.fileno())
        told = {} if journal is None else {"JOURNAL_STREAM": journal.format(f"{found.st_dev}:{found.st_ino}")}
        environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"} | told
        subprocess.run([sys.executable, "-c", LOGGING, style], stderr=file, env=environment, check=True, timeout=30)
    return path.read_text()


@pytest.mark.parametrize(
    ("journal", "time_of_day"),
    [
        pytest.param(None, f"{TIME} ", id="no systemd"),
        pytest.param("{}", "", id="the journal"),
        pytest.param("8:1", f"{TIME} ", id="a file, though systemd started it"),
    ],
)
def test_a_line_of_text_has_its_time_unless_the_journal_notes_it(
    journal: str | None, time_of_day: str, tmp_path: Path
) -> None:
    """By RFC 3339 in UTC; the journal is told from other files as systemd.exec(5) says."""
    line = logged(tmp_path / "log", "text", journal)
    assert re.fullmatch(rf"{time_of_day}WARNING meshdns\.resolver: 1 %\n", line), line


def test_a_line_of_json_has_its_time_everywhere(tmp_path: Path) -> None:
    """Whoever collects JSON need not know where it came through."""
    line = json.loads(logged(tmp_path / "log", "json", "{}"))
    assert re.fullmatch(TIME, line.pop("time"))
    assert line == {"level": "warning", "logger": "meshdns.resolver", "message": "1 %"}


def test_a_reader_that_stalls_costs_lines_and_no_time(caplog: pytest.LogCaptureFixture) -> None:
    """Far more lines than a pipe and the queue hold are taken at once; whole ones arrive, and the rest is told."""
    reader, writer = os.pipe()
    write = line_writer(f"/proc/self/fd/{writer}")
    assert write is not None
    put = 3 * LINES_HELD
    for _ in range(put):
        write.put(LINE)
    os.set_blocking(reader, False)
    got = b""
    give_up = time.monotonic() + WITHIN_S
    with caplog.at_level(logging.WARNING):
        while True:
            assert time.monotonic() < give_up
            told = list(caplog.messages)  # before the look at the pipe: after it all is there
            try:
                got += os.read(reader, 1 << 16)
            except BlockingIOError:
                if told:
                    break
                time.sleep(0.01)
    os.close(reader)
    os.close(writer)
    lines = got.decode().splitlines()
    assert write.dropped == put - len(lines)
    assert set(lines) == {LINE}
    assert told == [f"lines for /proc/self/fd/{writer} were dropped, as nobody took them in time: {put - len(lines)}"]


def test_lines_are_appended(tmp_path: Path) -> None:
    """A file keeps what it has."""
    path = tmp_path / "log"
    path.write_text("before\n")
    write = line_writer(str(path))
    assert write is not None
    write.put("after")
    give_up = time.monotonic() + WITHIN_S
    while path.read_text() != "before\nafter\n":
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_lines_that_are_lost_to_the_end_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A disk that stays full is told once, and at the end how many lines it has cost."""
    with caplog.at_level(logging.WARNING):
        write = line_writer("/dev/full")
        assert write is not None
        for _ in range(3):
            write.put(LINE)
        write._close()
    assert write.dropped == 3
    assert caplog.messages == [
        "cannot write to /dev/full: no space left on device: lines are lost until it takes them",
        "lines for /dev/full were lost: 3",
    ]
