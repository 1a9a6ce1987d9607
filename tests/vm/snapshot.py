"""What a machine is, as lines that can be compared: files, units, rules, routes, users, what runs and what listens.

Left out is what a running system writes by itself, and what shadow's programs cannot help changing; each with its
reason.
"""

from __future__ import annotations

import difflib
import json
from typing import Final

from vm.machine import Machine

LEFT_OUT: Final = {
    "/dev": "the kernel's",
    "/proc": "the kernel's",
    "/sys": "the kernel's",
    "/run": "gone with a restart; names of ours in there are looked for apart",
    "/tmp": "everybody's",  # noqa: S108 - named, not used
    "/wheels": "bound from outside",
    "/tree": "bound from outside",
    "/var/log": "a log of what was done is no trace to remove",
    "/var/lib/systemd": "timers' stamps, the random seed",
    "/etc/passwd-": "the backup that shadow's programs keep of the file before their last change",
    "/etc/group-": "the same",
    "/etc/shadow-": "the same",
    "/etc/gshadow-": "the same",
    "/etc/.pwd.lock": "the lock of shadow's programs",
}  # fmt: skip
REWRITTEN: Final = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
"""Written anew by useradd(8) and userdel(8): their time is another, their content must be the same."""
BY_CTIME: Final = "/usr"
"""Too much to read each time: the kernel's time of the last change says enough."""

_FILES: Final = """
import hashlib, json, os, stat, sys
left_out, rewritten, by_ctime = json.load(sys.stdin)
def lines(directory):
    for entry in sorted(os.scandir(directory), key=lambda one: one.name):
        path, found = entry.path, entry.stat(follow_symlinks=False)
        if path in left_out:
            continue
        said = [path, oct(found.st_mode), f"{found.st_uid}:{found.st_gid}"]
        if stat.S_ISDIR(found.st_mode):
            yield " ".join(said)
            yield from lines(path)
            continue
        if path not in rewritten:
            said += [f"mtime={found.st_mtime_ns}"]
        if stat.S_ISLNK(found.st_mode):
            said += [f"-> {os.readlink(path)}"]
        elif path.startswith(by_ctime):
            said += [f"size={found.st_size} ctime={found.st_ctime_ns}"]
        elif stat.S_ISREG(found.st_mode):
            said += [hashlib.sha256(open(path, "rb").read()).hexdigest()]
        yield " ".join(said)
print("\\n".join(lines("/")))
"""
_COMMANDS: Final = {
    "unit file": "systemctl list-unit-files --no-legend --no-pager",
    "unit": "systemctl list-units --all --full --plain --no-legend --no-pager --type=service,socket,timer,path,target"
    " | awk '{print $1, $2, $3}' | grep -v -e '^user' -e '^session' -e '^systemd-tmpfiles-clean'",
    "address": "ip -o address | sed 's/valid_lft.*//'",
    "rule": "ip rule; ip -6 rule",
    "route": "ip route show table all; ip -6 route show table all",
    "user": "getent passwd; getent group",
    "process": "ps -e -o user:20=,args= | grep -i meshdns | grep -v grep || true",
    "listens": "ss -Hltnu | awk '{print $1, $5}' | sort -u",
    "in /run": "find /run -iname '*meshdns*' 2>/dev/null | grep -v /run/host || true",
    "nameservers": "cat /etc/resolv.conf 2>&1 || true; resolvectl dns",
}

Snapshot = dict[str, list[str]]


def snapshot(vm: Machine) -> Snapshot:
    """Return what the machine is now, by kind."""
    asked = json.dumps([list(LEFT_OUT), REWRITTEN, BY_CTIME])
    files = vm.run("python3", "-I", "-c", _FILES, stdin=asked).stdout
    assert vm.inside
    rules = vm.inside.ruleset()  # by the nft of this machine: that one may lack it
    said = {kind: vm.shell(command) for kind, command in _COMMANDS.items()}
    return {kind: text.splitlines() for kind, text in {"file": files, "rules": rules, **said}.items()}


def difference(before: Snapshot, after: Snapshot) -> str:
    """Return what differs, as lines with `-` and `+`; empty for nothing."""
    changes = []
    for kind in before:
        compared = difflib.unified_diff(before[kind], after[kind], lineterm="", n=0)
        changes += [f"{line[0]} {kind} {line[1:]}" for line in list(compared)[2:] if not line.startswith("@@")]
    return "\n".join(changes)


def summary(of: Snapshot) -> str:
    """Return how much was compared."""
    return ", ".join(f"{kind}: {len(lines)}" for kind, lines in of.items())
