"""A click group that imports some of its commands only when they are asked for; `install` starts without `doctor`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from meshdns.init.options import refuse_unknown


class LateGroup(click.Group):
    """A group with further commands in other modules: `late` maps a command's name to its module."""

    def __init__(self, *arguments: Any, late: Mapping[str, str], **attributes: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(*arguments, **attributes)
        self._late = late

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, in order."""
        return sorted({*super().list_commands(ctx), *self._late})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module now where it is a late one."""
        if cmd_name not in self._late:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(self._late[cmd_name]), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        refuse_unknown(self, ctx, args)
        return super().resolve_command(ctx, args)
