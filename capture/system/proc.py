"""Door: /proc. What the kernel shows of the namespaces that the calling thread is in (proc_pid_net(5)).

Without pathlib, as in all modules that every installation imports: it brings urllib along and costs 5 ms.
"""

from __future__ import annotations


def net(name: str) -> str:
    """Return the text of /proc/thread-self/net/NAME; OSError where this kernel has none or hides it."""
    with open(f"/proc/thread-self/net/{name}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - see above
        return file.read()


def mapped_ids(kind: str) -> tuple[range, ...]:
    """Return the ids of that kind, `uid` or `gid`, that this user namespace has (user_namespaces(7))."""
    with open(f"/proc/thread-self/{kind}_map", encoding="ascii") as file:  # noqa: PTH123 - see above
        rows = [[int(word) for word in line.split()] for line in file]
    return tuple(range(first, first + count) for first, _, count in rows)


def net_lines(name: str) -> list[str]:
    """Return its lines; none where this kernel has no such file."""
    try:
        return net(name).splitlines()
    except OSError:
        return []
