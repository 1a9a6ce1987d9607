"""The command `meshdns`: the group, and the one place where an error becomes a line on stderr and an exit code.

Commands are imported when they are asked for, so that `meshdns --help` and `meshdns capture install` start quickly.
"""

from __future__ import annotations

from meshdns.init import holding, importing  # noqa: F401 - one that works by being imported

# isort: split
import atexit
import contextlib
import importlib
import os
import threading
from collections.abc import Sequence
from typing import Any, Final

import click

from meshdns.capture.errors import CaptureError
from meshdns.init import output
from meshdns.init.errors import INTERRUPTED, InitError, InterruptionError
from meshdns.init.options import located, refuse_unknown
from meshdns.init.version import VERSION, commit
from meshdns.relay.errors import RelayError
from meshdns.resolver.errors import ResolverError

COMMANDS: Final = {
    "capture": "Send port-53 traffic, and traffic to allocated addresses, to the local resolver and relay.",
    "resolver": "Answer the names of mounted ServiceEntries; forward every other name.",
    "inject": "Print Kubernetes manifests with capture and the resolver in their pods.",
    "vm": "Set this machine up for meshdns, look at it, take everything back.",
    "demo": "Show all of it on this machine, in throw-away network namespaces.",
    "completion": "Print what makes a shell complete these commands with the Tab key.",
}
"""Each stands in the module of its name, below `commands`."""

USAGE = 2
MISSING = 3


class _LazyGroup(click.Group):
    """A group that lists `COMMANDS` with their one-line help and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"meshdns.init.commands.{cmd_name}")
        importing.finished()
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        refuse_unknown(self, ctx, args)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run a command; an interruption is one of our errors, before click puts an empty line in front of it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise InterruptionError("interrupted") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's signature
    if wanted and not ctx.resilient_parsing:
        known = commit()
        click.echo(f"meshdns {VERSION}" + (f" (commit {known})" if known else ""))
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show version and commit.",
)
def meshdns() -> None:
    """Service-mesh names that resolve and connect where they are looked up.

    \b
    See it work on this machine, in namespaces of its own:
      meshdns demo
    Into a pod; onto a virtual machine:
      meshdns inject -f deployment.yaml | kubectl apply -f -
      meshdns vm onboard
    What would keep it from working here; why a name answers as it does:
      meshdns capture doctor
      meshdns resolver explain auto.internal
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `meshdns` and leave with the exit code that behaviour demands: see README, "Exit codes"."""
    output.guard()
    _leave(run(arguments))


def _leave(exit_code: int) -> None:
    """End the process now. Taking the interpreter apart, object by object, would take longer than `nft` does."""
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads, as sys.exit would
    atexit._run_exitfuncs()  # noqa: SLF001 - what wanted to be called is
    for why in output.failures():
        told = f"meshdns: cannot write the output: {why}: the command itself ended with {exit_code}\n"
        with contextlib.suppress(OSError):
            os.write(2, told.encode())
        exit_code = exit_code or MISSING
    os._exit(exit_code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code. Errors of ours and of click are one line on stderr."""
    try:
        result = meshdns.main(args=arguments, prog_name="meshdns", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return USAGE
    except click.ClickException as error:
        return _fail(located(error), USAGE)
    except (CaptureError, ResolverError, RelayError, InitError) as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    return result if isinstance(result, int) else 0


def _fail(text: str, exit_code: int) -> int:
    line = " ".join(text.split())
    click.echo(f"meshdns: {line}", err=True)
    return exit_code


if __name__ == "__main__":
    main()
