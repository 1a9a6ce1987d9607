"""What people see: colour and what is waited for on a terminal, plain text in a pipe or with NO_COLOR; door: rich."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

import click


def heading(text: str) -> None:
    """Print a line that stands out."""
    click.secho(text, bold=True, color=None if _in_colour() else False)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is being done or waited for, and take that back when the block ends; nothing elsewhere."""
    if not _is_terminal(sys.stderr) or os.environ.get("TERM") == "dumb":
        yield
        return
    click.echo(f"{what} …", nl=False, err=True)
    try:
        yield
    finally:
        click.echo("\r\033[K", nl=False, err=True)


def count(number: int, noun: str) -> str:
    """Return the number with its noun: `1 difference`, `2 differences`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _in_colour() -> bool:
    """Tell whether stdout is a terminal whose user wants colour (an empty NO_COLOR says nothing: no-color.org)."""
    return _is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")


def _is_terminal(stream: TextIO | None) -> bool:
    """Tell whether somebody looks at it; a closed stream is None."""
    return stream is not None and stream.isatty()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns. In a pipe: no colour, no borders, nothing cut, two spaces between columns."""
    if _in_colour():
        _rich_table(columns, rows)
        return
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())  # noqa: T201


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 60 ms, and only a terminal needs it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    Console().print(shown)
