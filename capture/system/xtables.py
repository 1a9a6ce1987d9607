"""Door: /proc. What the kernel says of iptables without being asked through a program, and so without being changed."""

from __future__ import annotations

import time
from typing import Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.policy.spec import Family
from meshdns.capture.system.proc import net

_NAMES: Final = {Family.IPV4: "ip_tables_names", Family.IPV6: "ip6_tables_names"}
_COARSE_CLOCK: Final = 6
"""CLOCK_MONOTONIC_COARSE (linux/time.h): its resolution is one tick of the kernel."""
_TICKS_AT_BOOT_S: Final = -300
"""The kernel's ticks wrap around five minutes after boot, on purpose (INITIAL_JIFFIES in linux/jiffies.h)."""
_TICKS_WRAP_AT: Final = 2**32


def legacy_tables(family: Family) -> frozenset[str]:
    """Return the legacy tables that exist; PreflightError where we may not look."""
    try:
        return frozenset(net(_NAMES[family]).split())
    except FileNotFoundError:
        return frozenset()  # a kernel without them, or without any table so far
    except PermissionError as error:
        raise PreflightError("cannot read which iptables tables exist: run as root") from error


def heartbeats(name: str) -> str | None:
    """Return what the kernel's list `name` of xt_recent remembers, None where no rule has such a list."""
    try:
        return net(f"xt_recent/{name}")
    except OSError:
        return None


def ticks() -> tuple[float, float]:
    """Return the kernel's time in ticks (jiffies), within half a second, and how many of them are a second."""
    per_second = 1 / time.clock_getres(_COARSE_CLOCK)
    since_boot_s = time.clock_gettime(_COARSE_CLOCK)
    return _TICKS_WRAP_AT + (_TICKS_AT_BOOT_S + since_boot_s) * per_second, per_second


def missing_capabilities() -> tuple[str, ...]:
    """Return which of CAP_NET_ADMIN and CAP_NET_RAW this process lacks: iptables' own messages do not always say."""
    effective = effective_capabilities()
    return tuple(capability for capability, bit in _CAPABILITIES if not effective >> bit & 1)


def effective_capabilities() -> int:
    """Return the capabilities of this thread, a bit each (CapEff in proc_pid_status(5))."""
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - as in proc.py
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields["CapEff"], 16)


_CAPABILITIES: Final = (("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13))
"""linux/capability.h"""
