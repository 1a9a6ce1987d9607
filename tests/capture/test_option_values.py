"""Any text as the value of any option: it is understood, or refused by one line that says which option and why."""

from __future__ import annotations

import contextlib
import io
import os
import re
from unittest.mock import patch

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshdns.capture.policy.spec import MAX_PORT
from meshdns.init.capture_options import SETTINGS
from meshdns.init.cli import run
from meshdns.init.commands.capture_plan import plan

NAMING_A_FILE = {"config", "mesh_config", "pod_annotations", "resolv_conf", "netns"}
"""What is missing on the machine costs exit code 3, not 2; files and namespaces have tests of their own."""
OPTIONS = sorted(
    option.opts[0]
    for option in plan.params
    if isinstance(option, click.Option) and not option.is_flag and option.name not in {*NAMING_A_FILE, "form"}
)
GIVEN = ["--family", "both", "--dns-servers", "10.0.0.1", "--backend", "nft"]
STATEMENT = re.compile(r"(#|flush table|delete chain|add (table|set|chain|rule)) ")

NUMBERS = st.integers(-1, MAX_PORT + 1) | st.integers(-(2**70), 2**70)
WORDS = st.sampled_from(
    [
        "*",
        "all",
        "resolv-conf",
        "eth0",
        "lo",
        "lo*",
        "root",
        "ipv4",
        "tproxy",
        "::/0",
        "10.0.0.0/8",
        "10.0.0.1/8",
        "fe80::1%eth0",
        "fe80::1%",
        "1.2.3.4",
        "0x539",
        "1e3",
        "inf",
        "nan",
        "1_000",
        "٣",
        "-1",
        "8000-8010",
        "9-1",
        "0.5",
        'a"b',
        "a;b",
        "$(id)",
        "`id`",
        "{",
        "#",
        "a\x00b",
        "a,b",
        ",",
        "+53",
    ]
) | st.sampled_from(["", " 53 ", "a\nadd table x", "\u202e53"])
PIECES = WORDS | NUMBERS.map(str) | st.text(max_size=20)
TEXTS = (
    PIECES
    | st.lists(PIECES, min_size=2, max_size=4).map(",".join)
    | st.lists(PIECES, min_size=2, max_size=2).map("".join)
)


def _planned(option: str, text: str, way: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    others = [word for at in range(0, len(GIVEN), 2) if GIVEN[at] != option for word in GIVEN[at : at + 2]]
    said = [f"{option}={text}"] if way == "flag" else []
    environment = {} if way == "flag" else {SETTINGS.variable(option.removeprefix("--")): text}
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), patch.dict(os.environ, environment):
        code = run(["capture", "plan", "--format", "nft", *others, *said])
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("way", ["flag", "variable"])
@pytest.mark.parametrize("option", OPTIONS)
@settings(max_examples=30, deadline=None)
@given(text=TEXTS)
@example(text="a\nadd table x")
@example(text="fe80::1%")
@example(text="0-0")
@example(text='eth0"; flush ruleset; #')
def test_a_value_is_understood_or_refused(option: str, way: str, text: str) -> None:
    """Exit 0 and a script of our own statements, or exit 2 and one line that names the option or its variable."""
    if way == "variable" and ("\0" in text or any("\ud800" <= character <= "\udfff" for character in text)):
        return  # no environment can hold that
    code, out, err = _planned(option, text, way)
    if code == 0:
        assert all(STATEMENT.match(line) for line in out.splitlines())
        return
    names = (option, SETTINGS.variable(option.removeprefix("--")))
    lines = [line for line in err.splitlines() if not line.startswith("meshdns: warning: ")]
    assert (code, out, len(lines)) == (2, "", 1), err
    assert any(name in lines[0] for name in names), err
    if re.fullmatch(r"[0-9A-Za-z:./%*-]+", text):  # one item, and nothing that is told in another spelling
        assert (str(int(text)) if text.isdecimal() else text) in lines[0], err
    assert not set(lines[0]) - {" "} & set(map(chr, range(32))), "a control character reaches the terminal"
