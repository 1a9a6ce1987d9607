"""What routing must hold besides the rules, so that TPROXY's connections stay here and a proxy may use ::6 (RFC 4291).

pyroute2 is imported only where TPROXY is wanted or something of it is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshdns.capture.policy.spec import CaptureSpec, Family
from meshdns.capture.system.steered import PASS_THROUGH, is_steered

if TYPE_CHECKING:
    from meshdns.capture.system.netlink import Steering


def settle(spec: CaptureSpec | None) -> bool:
    """Make routing hold exactly what `spec` needs (None: nothing) of ours; returns whether that changed it."""
    if not _in_play(spec):
        return False
    from meshdns.capture.system import netlink  # noqa: PLC0415 - see above

    wanted, have = _wanted(spec), netlink.steering()
    missing = [one for one in wanted if one not in have]
    surplus = [one for one, is_ours in have.items() if is_ours and one not in wanted]
    for one in missing:
        netlink.add_steering(one)
    # Rules last: as long as one stands, the next command knows that there may be more.
    for one in reversed(surplus):
        netlink.remove_steering(one)
    return bool(missing or surplus)


def differences(spec: CaptureSpec) -> tuple[str, ...]:
    """Return what is missing or too much, as lines of `- expected` and `+ live`."""
    if not _in_play(spec):
        return ()
    from meshdns.capture.system import netlink  # noqa: PLC0415 - see above

    wanted, have = _wanted(spec), netlink.steering()
    return (
        *(f"- {one}" for one in wanted if one not in have),
        *(f"+ {one}" for one, is_ours in have.items() if is_ours and one not in wanted),
    )


def _in_play(spec: CaptureSpec | None) -> bool:
    return (spec is not None and spec.tproxy) or is_steered()


def _wanted(spec: CaptureSpec | None) -> tuple[Steering, ...]:
    """Return what is needed, rules first."""
    if spec is None or not spec.tproxy:
        return ()
    from meshdns.capture.system.netlink import LocalRoute, LoopbackAddress, MarkRule  # noqa: PLC0415 - see above

    return (
        *(MarkRule(family, spec.tproxy_mark, spec.tproxy_table) for family in spec.families),
        *(LocalRoute(family, spec.tproxy_table) for family in spec.families),
        *((LoopbackAddress(PASS_THROUGH),) if Family.IPV6 in spec.families else ()),
    )
