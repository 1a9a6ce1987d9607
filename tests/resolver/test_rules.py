"""The rules as `meshdns resolver check` tells them: each breaks by its example, and docs/rules.md is made of both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rule_examples import EXAMPLES

from meshdns.init.cli import run
from meshdns.resolver.source.listing import MAX_FILE_BYTES
from meshdns.resolver.source.problem import Level, Rule
from meshdns.resolver.source.rules import RULES

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"

HEAD = """\
# Rules for manifests

What `meshdns resolver check` tells, and `meshdns resolver run` logs. An id never changes its meaning.

- **error**: the document is refused, as the API server would refuse it; what it said before is served on.
- **warning**: it is served, and something in it does not do what it says.
- **note**: it is served as it should be, and yet not everybody expects it.

M: files, documents, fields of any kind. SE001-SE050: Istio's webhook. SE101-SE199: the schema of its custom resources.
SE201: its analyzers. L: what nobody else tells.

This page is made by `make golden` from the catalogue and from examples that the tests run.
"""


def page() -> str:
    """Return docs/rules.md."""
    lines = [HEAD, "| id | rule | level |", "|---|---|---|"]
    lines += [
        f"| [{rule.id}](#{rule.id.lower()}-{rule.name}) | {rule.name} | {rule.level} |" for rule in RULES.values()
    ]
    for rule in RULES.values():
        lines += ["", *_section(rule)]
    return "\n".join(lines) + "\n"


def _section(rule: Rule) -> Iterator[str]:
    example = EXAMPLES[rule.id]
    yield f"## {rule.id} {rule.name}"
    yield ""
    yield f"{rule.level.capitalize()}. {example.meaning}"
    yield ""
    if example.options:
        yield f"Breaks it, with `{' '.join(example.options)}`:"
        yield ""
    yield "```yaml"
    yield (example.elided or example.text).rstrip()
    yield "```"
    yield ""
    yield f"Fix: {rule.fix}."


def test_every_rule_has_an_example() -> None:
    """The catalogue and the examples name the same rules, in the same order."""
    assert list(EXAMPLES) == list(RULES)


def test_golden_page() -> None:
    """docs/rules.md is what the catalogue and the examples make."""
    if os.environ.get("MESHDNS_GOLDEN") == "rewrite":
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


@pytest.fixture(params=[rule for rule, example in EXAMPLES.items() if example.text])
def broken(request: pytest.FixtureRequest) -> Rule:
    return RULES[request.param]


def test_every_example_breaks_its_rule(broken: Rule, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example is told by its rule's id, name, level, file, line and fix; errors, and nothing else, exit with 1."""
    example = EXAMPLES[broken.id]
    file = tmp_path / "a.yaml"
    file.write_text(example.text)
    code = run(["resolver", "check", "-o", "json", *example.options, str(tmp_path)])
    problems = json.loads(capsys.readouterr().out)
    found = next(problem for problem in problems if problem["id"] == broken.id)
    assert (found["name"], found["level"], found["fix"]) == (broken.name, broken.level, broken.fix)
    assert found["file"] == str(file)
    assert 0 < found["line"] <= len(example.text.splitlines())
    assert code == int(any(problem["level"] == Level.ERROR for problem in problems))
    assert {problem["level"] for problem in problems} <= {broken.level, Level.WARNING, Level.NOTE}


def test_rules_that_no_text_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is too big, not UTF-8 or not a file is told by its rule as well."""
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    (tmp_path / "latin.yaml").write_bytes(b"hosts: [b\xfccher.example]\n")
    os.mkfifo(tmp_path / "pipe.yaml")
    assert run(["resolver", "check", "-o", "json", str(tmp_path)]) == 1
    assert [problem["id"] for problem in json.loads(capsys.readouterr().out)] == ["M001", "M002", "M010"]
