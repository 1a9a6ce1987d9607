"""Where a command's settings come from: flag, then environment, then the `--config` file, then the default.

All commands of a group share one set of names: `--dns-port`, `MESHDNS_CAPTURE_DNS_PORT` and the key `dns-port` are the
same setting, whichever `meshdns capture` command reads it. click's automatic prefix would put the command's name in, so
that `plan` would not see what `install` sees.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from meshdns.init.errors import ConfigurationError
from meshdns.init.parameters import SWITCH, ListType

F = TypeVar("F", bound=Callable[..., Any])

_KUBERNETES = r"[A-Z0-9_]+(_SERVICE_(HOST|PORT\w*)=.*|_PORT=\w+://.*|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?=.*)"
"""What kubelet sets in every pod for a Service whose name happens to start with meshdns-capture or meshdns-resolver."""

_PLACES = f"{__name__}.places"
"""In a context's `meta`: by parameter, `file:line: key` of what a settings file says."""


class Settings:
    """The settings of one command group; its methods are decorators for the group's commands."""

    def __init__(self, group: str) -> None:
        self.prefix = f"MESHDNS_{group.upper()}_"
        self._names: set[str] = set()
        self._many: set[str] = set()

    def option(self, *declarations: str, many: bool = False, **attributes: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's
        """Return `click.option` with the group's environment name.

        `many=True`: may be repeated, each value may be a comma list; the command gets one flat tuple.
        """
        name = next(part.removeprefix("--") for part in declarations if part.startswith("--")).partition("/")[0]
        self._names.add(name)
        attributes.setdefault("show_default", attributes.get("default") is not None)
        if "/" in declarations[0] or attributes.get("is_flag"):
            attributes.setdefault("type", SWITCH)
        if many:
            self._many.add(name)
            attributes.update(type=ListType(attributes["type"]), multiple=True, callback=_flatten)
        return click.option(*declarations, envvar=self.variable(name), **attributes)

    def file_option(self) -> Callable[[F], F]:
        """Return the option `--config FILE`, whose keys are the group's option names."""
        return click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False),
            envvar=self.variable("config"),
            is_eager=True,
            expose_value=False,
            callback=self._read_file,
            help="YAML file with these settings; keys are the option names without dashes in front.",
        )

    def variable(self, name: str) -> str:
        """Return the environment variable of the option called `name`, such as MESHDNS_CAPTURE_DNS_PORT."""
        return self.prefix + name.replace("-", "_").upper()

    def check_environment(self, environment: Mapping[str, str] = os.environ) -> None:
        """Warn of variables with our prefix that nothing reads; refuse empty ones, which click would pass over."""
        known = {self.variable(name) for name in (*self._names, "config")}
        for variable, value in environment.items():
            if variable in known and not value:
                raise ConfigurationError(f"cannot read {variable}: it is empty: unset it to get the default")
            if variable.startswith(self.prefix) and variable not in known and not _is_from_kubelet(variable, value):
                click.echo(f"meshdns: warning: nothing reads {variable}{nearest(variable, known)}", err=True)

    def _read_file(self, ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
        if path is None:
            return
        from pathlib import Path  # noqa: PLC0415 - 5 ms, and most have no file

        from meshdns.resolver.source.manifest import ManifestError, read_settings  # noqa: PLC0415 - YAML costs 10 ms and 3 MB

        try:
            values = read_settings(Path(path))
        except ManifestError as error:
            raise click.UsageError(str(error), ctx) from error
        said = {}
        for key, line in values.lines.items():
            if key not in self._names:
                raise click.UsageError(f"{path}:{line}: unknown key {key!r}{nearest(key, self._names)}", ctx)
            value = values[key]
            if key in self._many and isinstance(value, str):
                value = [value]  # as with a flag, one value may be a comma list
            elif key not in self._many and isinstance(value, list):
                raise click.UsageError(f"{path}:{line}: {key}: takes one value, not a list", ctx)
            said[key.replace("-", "_")] = value
        ctx.meta[_PLACES] = {key.replace("-", "_"): f"{path}:{line}: {key}" for key, line in values.lines.items()}
        ctx.default_map = {**(ctx.default_map or {}), **said}  # before what Istio's own settings say


def located(error: click.ClickException) -> str:
    """Return an error's text; of a bad value it says which line of which file, or which variable, has it."""
    if isinstance(error, click.BadParameter) and error.ctx and error.param and error.param.name:
        source = error.ctx.get_parameter_source(error.param.name)
        place = error.ctx.meta.get(_PLACES, {}).get(error.param.name)
        if source is ParameterSource.DEFAULT_MAP and place:
            return f"{place}: {error.message}"
        if source is ParameterSource.ENVIRONMENT:
            return f"{error.param.envvar}: {error.message}"
    return error.format_message()


def _flatten(_ctx: click.Context, _param: click.Parameter, values: tuple[tuple[Any, ...], ...]) -> tuple[Any, ...]:
    return tuple(item for value in values for item in value)


def _is_from_kubelet(variable: str, value: str) -> bool:
    return re.fullmatch(_KUBERNETES, f"{variable}={value}") is not None


def refuse_unknown(group: click.Group, ctx: click.Context, args: Sequence[str]) -> None:
    """Refuse the first word where no command of a group has that name, with the nearest that one has."""
    name = args[0] if args else ""
    if name and not name.startswith("-") and group.get_command(ctx, name) is None:
        raise click.UsageError(f"No such command {name!r}{nearest(name, group.list_commands(ctx)) or '.'}", ctx)


def nearest(name: str, known: Collection[str]) -> str:
    """Return what may have been meant, as the end of a sentence; nothing where no known name is near."""
    import difflib  # noqa: PLC0415 - hardly ever is a name unknown

    matches = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {matches[0]}?" if matches else ""
