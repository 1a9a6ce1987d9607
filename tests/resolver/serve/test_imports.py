"""What the serving process does without."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMAND_LINE = "meshdns.init.cli, meshdns.init.commands.resolver, meshdns.init.serving"
LATE = {
    *("yaml", "dnslib", "pyroute2", "rich", "prometheus_client", "meshdns.resolver.serve.pages"),
    *("meshdns.relay.server", "meshdns.relay.route", "meshdns.init.leased"),
    *("meshdns.resolver.source.entry", "meshdns.resolver.table.build", "meshdns.resolver.table.allocate"),
}


@pytest.mark.parametrize("modules", ["meshdns.resolver.serve.run", f"{COMMAND_LINE}, meshdns.resolver.serve.run"])
def test_serving_imports_nothing_that_only_others_need(modules: str) -> None:
    """What loads, asks or looks is not in the process that answers: it costs 60 ms of start and 10 MB for nothing."""
    code = f"import {modules}, sys; print(*{LATE!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_loading_imports_what_serving_does_without() -> None:
    """The other side of it: the loading child does import YAML, so the name looked for is the right one."""
    code = "import meshdns.resolver.serve.load, sys; print(*{'yaml', 'dnslib', 'pyroute2'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "yaml\n"
