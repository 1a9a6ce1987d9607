"""Lines for files and pipes: nobody waits for who reads them."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from meshdns.init.logs import LINES_HELD, line_writer

LINE = "x" * 99
WITHIN_S = 20.0


def test_a_reader_that_stalls_costs_lines_and_no_time(caplog: pytest.LogCaptureFixture) -> None:
    """Far more lines than a pipe and the queue hold are taken at once; whole ones arrive, and the rest is told."""
    reader, writer = os.pipe()
    write = line_writer(f"/proc/self/fd/{writer}")
    assert write is not None
    put = 3 * LINES_HELD
    for _ in range(put):
        write(LINE)
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
    assert set(lines) == {LINE}
    assert told == [f"{put - len(lines)} lines for /proc/self/fd/{writer} were dropped: nobody took them in time"]


def test_lines_are_appended(tmp_path: Path) -> None:
    """A file keeps what it has."""
    path = tmp_path / "log"
    path.write_text("before\n")
    write = line_writer(str(path))
    assert write is not None
    write("after")
    give_up = time.monotonic() + WITHIN_S
    while path.read_text() != "before\nafter\n":
        assert time.monotonic() < give_up
        time.sleep(0.01)
