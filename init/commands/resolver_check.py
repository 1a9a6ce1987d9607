"""`meshdns resolver check`: manifests judged without a cluster and without serving them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from meshdns.init import defaults
from meshdns.init.commands.resolver import FILE, SETTINGS, resolver, scope_options
from meshdns.init.findings import FORMS
from meshdns.init.present import waiting
from meshdns.resolver.source.problem import Level

FOUND_ERRORS: Final = 1
"""Exit code when the API server would refuse one of the documents."""

UNSERVED: Final = {
    "search": (),
    "state": None,
    "other_types": "nodata",
    "ttl": defaults.TTL_S,
    "negative_ttl": defaults.NEGATIVE_TTL_S,
}
"""The options of `run` that change nothing in a judgement."""


@resolver.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=FILE)
@click.option(
    "-o", "form", type=click.Choice(list(FORMS)), default="text", show_default=True, help="As what it is printed."
)
@SETTINGS.file_option()
@scope_options
def check(paths: tuple[Path, ...], form: str, **options: Any) -> int:  # noqa: ANN401 - click passes what they say
    """Say what is wrong with manifests, and what a name would not do that one expects of it.

    Level error: `run` refuses that document, as the API server would, and the exit code is 1. Every rule is explained
    in docs/rules.md. Leased addresses are those of a first start; `vips` lists those in use.

    \b
    Example:
      meshdns resolver check -o github entries/
    """
    from meshdns.init.serving import table_settings  # noqa: PLC0415 - with YAML 100 ms, which --help does without
    from meshdns.resolver.serve.check import check as judge  # noqa: PLC0415

    with waiting("reading manifests"):
        checked = judge(table_settings({**options, **UNSERVED, "manifests": paths}))
    for line in FORMS[form](checked.problems):
        click.echo(line)
    if not checked.files:
        click.echo(f"meshdns: warning: no manifest in {', '.join(map(str, paths))}: *.yaml *.yml *.json", err=True)
    return FOUND_ERRORS if any(problem.level is Level.ERROR for problem in checked.problems) else 0
