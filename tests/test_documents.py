"""What README and docs show is what there is: commands are understood, targets, findings and links exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from documents import DOCUMENTS, TREE, commands

from meshdns.capture.prove.doctor import CHECKS
from meshdns.init.cli import meshdns


def test_there_are_examples() -> None:
    """The documents show commands, and this test finds them."""
    assert len(commands()) > 8


@pytest.mark.parametrize("line", commands())
def test_every_example_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command in a document names a command and options that exist, with values they take."""
    monkeypatch.chdir(tmp_path)
    for file in ("deployment.yaml", "entries"):  # what the documents give to commands
        Path(file).touch()
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


def test_every_target_that_is_named_exists() -> None:
    """Each `make` target that the documents name is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z-]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    for document in (*DOCUMENTS, TREE / "CONTRIBUTING.md"):
        assert set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", document.read_text(), re.MULTILINE)) <= targets


def test_every_finding_of_doctor_is_explained() -> None:
    """The table of docs/troubleshooting.md has each id of `doctor`, in the order in which it looks, and no other."""
    text = (TREE / "docs" / "troubleshooting.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \| (?:error|warning)", text, re.MULTILINE) == list(CHECKS)


def test_every_link_leads_somewhere() -> None:
    """A link from one document to another names a file that exists, and a heading that it has."""
    for document in (*DOCUMENTS, TREE / "ARCHITECTURE.md", TREE / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            name, _, heading = target.partition("#")
            if name.startswith("https:"):
                continue
            linked = document.parent / name if name else document
            assert linked.exists(), f"{document.name}: {target}"
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if heading else ()
            assert not heading or heading in {_anchor(one) for one in headings}, f"{document.name}: {target}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
