"""`meshdns completion`: what a shell loads so that Tab completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
VARIABLE = "_MESHDNS_COMPLETE"
"""By click's rule for a program called meshdns: the script asks `meshdns` for candidates with it."""


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete these commands with the Tab key.

    Written to one of these files, it counts in every shell that is started from then on.

    \b
    Examples:
      meshdns completion bash > /etc/bash_completion.d/meshdns
      meshdns completion zsh > "${fpath[1]}/_meshdns"
      meshdns completion fish > ~/.config/fish/completions/meshdns.fish
    """
    click.echo(SHELLS[shell](ctx.find_root().command, {}, "meshdns", VARIABLE).source())
