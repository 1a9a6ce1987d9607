"""Door: rtnetlink. Whether anything of ours may stand in routing, told without pyroute2, which costs 190 ms.

Every command that installs, removes or compares asks; hardly any of them finds something.
"""

from __future__ import annotations

import errno
import struct
from ipaddress import IPv6Address
from typing import Final

from meshdns.capture.errors import PreflightError
from meshdns.capture.system import rawnetlink
from meshdns.capture.system.proc import net_lines

OWNER: Final = 133
"""Who made a rule or a route (rtm_protocol in rtnetlink(7)): nobody of /etc/iproute2/rt_protos has this number."""
PASS_THROUGH: Final = IPv6Address("::6")
"""An address of lo by which a proxy calls applications. IPv4 has all of 127.0.0.0/8 there, IPv6 has ::1 alone."""

# linux/rtnetlink.h, linux/fib_rules.h
_GET_RULE: Final = 34
_FRA_PROTOCOL: Final = 21
_RULE_HEADER: Final = struct.Struct("=BBBBBBBBI")


def is_steered() -> bool:
    """Return whether a rule of ours, or the address that we may have added, is there; PreflightError: who knows."""
    return OWNER in _rule_owners() or _has_pass_through()


def _has_pass_through() -> bool:
    return any(line.startswith(PASS_THROUGH.packed.hex()) for line in net_lines("if_inet6"))


def _rule_owners() -> set[int]:
    every_family = _RULE_HEADER.pack(*[0] * 9)
    try:
        rules = rawnetlink.ask(rawnetlink.ROUTE, _GET_RULE, rawnetlink.DUMP, every_family)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return set()  # a kernel without ip rules
        raise PreflightError(f"cannot read the ip rules: netlink says: {error.strerror}") from error
    return {
        value[0]
        for rule in rules
        for name, value in rawnetlink.attributes(rule[_RULE_HEADER.size :])
        if name == _FRA_PROTOCOL and value
    }
