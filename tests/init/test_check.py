"""`meshdns resolver check` as people and tools meet it: exit codes, and the four forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshdns.init.cli import run
from meshdns.init.findings import FORMS
from meshdns.resolver.source.problem import Problem
from meshdns.resolver.source.rules import HOST_SYNTAX, NO_ANSWER, SYNTAX

FINE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.internal]
  addresses: [192.0.2.1]
"""
UNKNOWN = FINE + "  adresses: [192.0.2.2]\n"
BROKEN = FINE.replace("a.internal", "under_score")


def checked(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command; return its exit code, and what it wrote to either side."""
    code = run(["resolver", "check", *map(str, arguments)])
    return (code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("text", "code", "last"),
    [
        (FINE, 0, "0 errors, 0 warnings, 0 notes"),
        (UNKNOWN, 0, "0 errors, 1 warning, 0 notes"),
        (BROKEN, 1, "1 error, 0 warnings, 0 notes"),
        (FINE + "---\n" + BROKEN.replace("name: a", "name: b"), 1, "1 error, 0 warnings, 0 notes"),
    ],
)
def test_errors_alone_fail(text: str, code: int, last: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1 when a document would be refused, and 0 whatever else is told."""
    (tmp_path / "a.yaml").write_text(text)
    found = checked(capsys, tmp_path)
    assert (found[0], found[1].splitlines()[-1], found[2]) == (code, last, "")


def test_a_path_that_cannot_be_read_is_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is given and missing is exit code 3 and one line, whatever stands in the others."""
    (tmp_path / "a.yaml").write_text(BROKEN)
    found = checked(capsys, tmp_path, tmp_path / "none")
    assert found == (3, "", f"meshdns: cannot read {tmp_path}/none: does not exist\n")
    assert checked(capsys)[0] == 2


def test_a_directory_without_manifests_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing was there to be checked, success is not passed off as a good result."""
    (tmp_path / "a.yml.bak").write_text(BROKEN)
    code, _, warning = checked(capsys, tmp_path)
    assert (code, warning) == (0, f"meshdns: warning: no manifest in {tmp_path}: *.yaml *.yml *.json\n")


def test_a_field_is_told_at_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever finds a problem, the line is that of the field, in lists of objects too."""
    head = "- apiVersion: networking.istio.io/v1\n  kind: ServiceEntry\n"
    item = head + "  metadata: {{name: {0}}}\n  spec:\n    hosts:\n    - {0}.x\n"
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: List\nitems:\n" + item.format("a") + item.format("b"))
    found = json.loads(checked(capsys, "-o", "json", tmp_path)[1])
    assert [(each["id"], each["line"], each["field"]) for each in found] == [
        ("L003", 9, "spec.hosts[0]"),
        ("L003", 15, "spec.hosts[0]"),
    ]


def test_options_are_those_of_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Namespace, cluster domain and pools come from flag, environment or file, like those of `run`."""
    (tmp_path / "a.yaml").write_text(FINE.replace("a.internal", "a.corp.example"))
    (tmp_path / "config").write_text("cluster-domain: corp.example\n")
    assert "L005" in checked(capsys, tmp_path, "--config", tmp_path / "config")[1]
    assert "L005" in checked(capsys, tmp_path, "--cluster-domain", "corp.example")[1]
    monkeypatch.setenv("MESHDNS_RESOLVER_POOL4", "192.0.2.0/24")
    assert "L010" in checked(capsys, tmp_path)[1]


PROBLEMS = (
    Problem("a, b:c.yaml", 3, "spec.hosts[0]", HOST_SYNTAX.id, HOST_SYNTAX.level, "'a\nb' 100%", HOST_SYNTAX.fix),
    Problem("d.yaml", 7, "spec.hosts[0]", NO_ANSWER.id, NO_ANSWER.level, "no answer", NO_ANSWER.fix),
    Problem("d.yaml", 0, "", SYNTAX.id, SYNTAX.level, "cannot parse", SYNTAX.fix),
)


def test_github_sees_one_command_a_line() -> None:
    """File, line and title are properties; what would end a property or a line is escaped."""
    first = "spec.hosts[0]: 'a%0Ab' 100%25"
    assert list(FORMS["github"](PROBLEMS)) == [
        f"::error file=a%2C b%3Ac.yaml,line=3,title=SE008 host-syntax::{first} (fix: {HOST_SYNTAX.fix})",
        f"::warning file=d.yaml,line=7,title=L003 no-answer::spec.hosts[0]: no answer (fix: {NO_ANSWER.fix})",
        f"::error file=d.yaml,title=M003 syntax::cannot parse (fix: {SYNTAX.fix})",
    ]


def test_sarif_names_rules_and_places() -> None:
    """Each result points at its rule, and at a line where there is one."""
    log = json.loads("\n".join(FORMS["sarif"](PROBLEMS)))
    run_ = log["runs"][0]
    rules = [rule["id"] for rule in run_["tool"]["driver"]["rules"]]
    assert (log["version"], rules) == ("2.1.0", ["L003", "M003", "SE008"])
    assert [rules[result["ruleIndex"]] for result in run_["results"]] == [problem.rule for problem in PROBLEMS]
    places = [result["locations"][0]["physicalLocation"] for result in run_["results"]]
    assert places == [
        {"artifactLocation": {"uri": "a%2C%20b%3Ac.yaml"}, "region": {"startLine": 3}},
        {"artifactLocation": {"uri": "d.yaml"}, "region": {"startLine": 7}},
        {"artifactLocation": {"uri": "d.yaml"}},
    ]
    assert [result["level"] for result in run_["results"]] == ["error", "warning", "error"]


def test_no_form_fails_on_nothing() -> None:
    """Nothing found is told in each form: an empty list, an empty log, a line that counts to nought, or silence."""
    told = {form: "\n".join(write(())) for form, write in FORMS.items()}
    assert (told["text"], told["json"], told["github"]) == ("0 errors, 0 warnings, 0 notes", "[]", "")
    assert json.loads(told["sarif"])["runs"][0]["results"] == []
