"""What the README shows is what there is: its commands are understood, its exit codes are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from meshdns.init.cli import meshdns

TREE = Path(__file__).parent.parent
DOCUMENTS = (TREE / "README.md",)


def commands() -> list[str]:
    """Return every line of a code block that calls meshdns, continuations joined, comments left out."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", " ")
        lines = re.findall(r"^ {4}(?:.*? )?(meshdns (?:capture|resolver|demo).*)$", text, re.MULTILINE)
        found += [" ".join(shlex.split(line, comments=True)).removesuffix(" &") for line in lines]
    return found


def test_there_are_examples() -> None:
    """The README shows commands, and this test finds them."""
    assert len(commands()) > 8


@pytest.mark.parametrize("line", commands())
def test_every_example_is_understood(line: str) -> None:
    """Every command of the README names a command and options that exist, with values they take."""
    command: click.Command = meshdns
    # The user and group `meshdns`, which the README has made, stand for any that exist.
    arguments = ["0" if part == "meshdns" else part for part in shlex.split(line)[1:]]
    context = click.Context(meshdns, info_name="meshdns")
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found
        context = click.Context(command, info_name=name, parent=context)
    command.parse_args(context, arguments)


def test_every_target_of_the_readme_exists() -> None:
    """Each `make` target that the documents name is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    for document in (*DOCUMENTS, TREE / "CONTRIBUTING.md"):
        assert set(re.findall(r"\bmake ([a-z]+)\b", document.read_text())) <= targets
