"""What the tests of `doctor` share: it is run in a pod whose files are a sound machine's, and what it finds is read.

Files are made in a mount namespace that ends with the command. There /run is empty, and /etc a copy: what the machine
that tests run on has in /run is out of sight, and what it has in /etc stays as it is.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import Any

from capturing import LISTED
from namespaces import Namespace
from proving import MESHDNS

OTHER = 4242
RESOLVED = 991
ORDINARY = (
    *("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
"""With the right to read, because the interpreter may lie where only root can see it."""
RESOLV_CONF = "/run/resolv.conf"
BASE = f"""
mount -t tmpfs none /run
printf 'nameserver %s\\n' {" ".join(LISTED)} >{RESOLV_CONF}
cp -a /etc /run/etc && mount --bind /run/etc /etc
echo 'hosts: files dns' >/etc/nsswitch.conf
"""
"""A sound machine's files."""
OPTIONS = (f"--resolv-conf={RESOLV_CONF}",)
LISTEN = """
import socket, sys, time
kind, address, port = sys.argv[1:]
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
listener.bind((address, int(port)))
if kind == "tcp": listener.listen()
print("listening", flush=True)
time.sleep(600)
"""
SERVERS = tuple(f"--dns-servers={address}" for address in LISTED)
SILENT_WITHIN_S = 20


def without(*programs: str) -> str:
    """Leave only programs of these names where Debian keeps those of netfilter."""
    kept = "".join(f"cp -a /usr/sbin/{program} /run/programs; " for program in programs)
    return f"mkdir /run/programs; {kept}mount --bind /run/programs /usr/sbin\n"


def listening(there: Namespace, kind: str, address: str, port: int, uid: int) -> ExitStack:
    """Have a program of another user listen, until the stack is closed."""
    caps = "+dac_read_search,+net_bind_service"
    owner = ("setpriv", f"--reuid={uid}", "--clear-groups", f"--inh-caps={caps}", f"--ambient-caps={caps}")
    stack = ExitStack()
    program = stack.enter_context(there.running(*owner, sys.executable, "-c", LISTEN, kind, address, str(port)))
    assert program.stdout is not None
    assert program.stdout.readline() == b"listening\n"
    return stack


def told(
    there: Namespace, files: str = "", options: tuple[str, ...] = OPTIONS, by: tuple[str, ...] = ()
) -> tuple[dict[str, Any], int]:
    """Return what `doctor` prints as JSON where a shell has made `files`, on top of a sound machine's; and its code."""
    command = (*by, MESHDNS, "capture", "doctor", "--json", *options)
    done = there.run("unshare", "--mount", "sh", "-euc", f'{BASE}{files}\nexec "$@"', "sh", *command, check=False)
    assert done.returncode in {0, 1}, done.stderr
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done.returncode


def ids(found: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the findings of a report, each with its level."""
    return {(finding["id"], finding["level"]) for finding in found["findings"]}


def until_told(there: Namespace, wanted: set[tuple[str, str]]) -> dict[str, Any]:
    """Ask `doctor`, without options, until it finds what is wanted and nothing else, for heartbeats come and go."""
    deadline = time.monotonic() + SILENT_WITHIN_S
    while ids(found := told(there, options=())[0]) != wanted:
        assert time.monotonic() < deadline, found
    return found
