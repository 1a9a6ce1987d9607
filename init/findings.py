"""Problems of manifests in the forms that people and tools read: text, JSON, GitHub's annotations, SARIF 2.1.0. Pure.

GitHub: docs.github.com/actions/reference/workflow-commands-for-github-actions. SARIF: docs.oasis-open.org/sarif.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from meshdns.init import present
from meshdns.resolver.source.problem import Level, Problem
from meshdns.resolver.source.rules import RULES

_GITHUB_LEVELS: Final = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}
_SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def text(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield two lines for each problem, the way compilers tell theirs, and one that counts them."""
    for problem in problems:
        rule = RULES[problem.rule]
        where = f"{problem.file}:{problem.line}" if problem.line else problem.file
        field = f"{problem.field}: " if problem.field else ""
        yield f"{where}: {problem.level} {rule.id} {rule.name}: {field}{problem.reason}"
        yield f"    fix: {problem.fix}"
    found = Counter(problem.level for problem in problems)
    yield ", ".join(present.count(found[level], level) for level in Level)


def as_json(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a list of objects."""
    yield json.dumps([_fields(problem) for problem in problems], indent=2)


def _fields(problem: Problem) -> dict[str, Any]:
    return {
        "id": problem.rule,
        "name": RULES[problem.rule].name,
        "level": problem.level,
        "file": problem.file,
        "line": problem.line,
        "field": problem.field,
        "reason": problem.reason,
        "fix": problem.fix,
    }


def github(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a workflow command for each problem: it shows at its line of the pull request."""
    for problem in problems:
        title = f"{problem.rule} {RULES[problem.rule].name}"
        properties = {"file": problem.file, **({"line": str(problem.line)} if problem.line else {}), "title": title}
        told = ",".join(f"{key}={_escaped(value, ',:')}" for key, value in properties.items())
        message = _escaped(f"{problem.field}: {problem.reason}".removeprefix(": ") + f" (fix: {problem.fix})")
        yield f"::{_GITHUB_LEVELS[problem.level]} {told}::{message}"


def _escaped(value: str, more: str = "") -> str:
    return "".join(f"%{ord(each):02X}" if each in f"%\r\n{more}" else each for each in value)


def sarif(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield one SARIF log, with those rules that were broken."""
    used = sorted({problem.rule for problem in problems})
    rules = [
        {
            "id": rule.id,
            "name": rule.name,
            "shortDescription": {"text": rule.name.replace("-", " ")},
            "help": {"text": rule.fix},
            "defaultConfiguration": {"level": rule.level},
        }
        for rule in map(RULES.__getitem__, used)
    ]
    results = [
        {
            "ruleId": problem.rule,
            "ruleIndex": used.index(problem.rule),
            "level": problem.level,
            "message": {"text": f"{problem.field}: {problem.reason}".removeprefix(": ") + f"\nfix: {problem.fix}"},
            "locations": [{"physicalLocation": _location(problem)}],
        }
        for problem in problems
    ]
    driver = {"name": "meshdns", "rules": rules}
    log = {"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    yield json.dumps(log, indent=2)


def _location(problem: Problem) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": quote(problem.file)}}
    return {**place, "region": {"startLine": problem.line}} if problem.line else place


FORMS: Final[Mapping[str, Callable[[Sequence[Problem]], Iterator[str]]]] = {
    "text": text,
    "json": as_json,
    "github": github,
    "sarif": sarif,
}
"""What each value of `-o` prints, line by line."""
