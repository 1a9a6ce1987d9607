"""Manifests judged as `run` would take them, without serving: everything wrong with them, and everything to know.

Which rules there are stands in `source.rules`; here all who judge are asked: the reader, the allocator, the lints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshdns.resolver.errors import PreflightError
from meshdns.resolver.serve.settings import TableSettings
from meshdns.resolver.source import rules
from meshdns.resolver.source.directory import Loaded, load
from meshdns.resolver.source.listing import content
from meshdns.resolver.source.locate import at_their_fields
from meshdns.resolver.source.problem import Problem
from meshdns.resolver.table.allocate import allocate
from meshdns.resolver.table.lint import lint


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found, sorted by file and line, in how many files."""

    problems: tuple[Problem, ...]
    files: int


def check(settings: TableSettings) -> Checked:
    """Judge the manifests of `settings` from nothing, without a ledger; PreflightError for a path that is unreadable.

    The search list is that of a pod of the namespace, whatever the machine has.
    """
    paths = [str(path) for path in settings.manifests]
    loaded = load(paths, settings.namespace)
    _refuse_unreadable(paths, loaded)
    entries = loaded.entries if settings.auto_allocate else ()
    allocation = allocate(entries, settings.pools, (), 0.0, answer_endpoints=settings.answer_endpoints)
    domain = settings.cluster_domain
    scope = settings.scope((f"{settings.namespace}.svc.{domain}", f"svc.{domain}", domain), 0)
    lints = lint(loaded.entries, allocation.leases, scope, settings.pools)
    found = _at_their_lines((*loaded.problems, *allocation.problems, *lints))
    return Checked(
        tuple(sorted(found, key=lambda problem: (problem.file, problem.line, problem.rule, problem.field))),
        len(loaded.files),
    )


def _at_their_lines(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Give each problem the line of its field. Values do not keep it, so the files are read once more."""
    by_file: dict[str, list[Problem]] = {}
    for problem in problems:
        by_file.setdefault(problem.file, []).append(problem)
    for file, found in by_file.items():
        try:
            data = content(file)
        except OSError:
            data = None
        yield from found if data is None else at_their_fields(found, data)


def _refuse_unreadable(paths: list[str], loaded: Loaded) -> None:
    for problem in loaded.problems:
        if problem.rule in {rules.UNREADABLE.id, rules.MISSING_PATH.id} and problem.file in paths:
            reason = problem.reason.partition(";")[0].removeprefix("cannot read: ")
            raise PreflightError(f"cannot read {problem.file}: {reason[:1].lower()}{reason[1:]}")
