"""A configuration of capture in the words of `install`: its options as they are typed, and how two of them differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from meshdns.capture.apply.record import Record, from_comments, recorded_version
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.policy.settings import to_shown_settings
from meshdns.capture.policy.spec import CaptureSpec
from meshdns.capture.values import replace

OPTIONS: Final = {
    "families": "family",
    "proxy_uids": "proxy-uid",
    "proxy_gids": "proxy-gid",
    "heartbeat_timeout_s": "heartbeat-timeout",
    "outbound_cidrs": "outbound-cidr",
    "exclude_outbound_cidrs": "exclude-outbound-cidr",
    "owner_groups": "owner-group",
    "exclude_owner_groups": "exclude-owner-group",
    "exclude_uids": "exclude-uid",
    "exclude_interfaces": "exclude-interface",
    "virtual_interfaces": "virtual-interface",
}
"""Fields whose option is not called as they are. `heartbeat_mark`, `ct_zone` and `pools` have no option at all."""
EVERYWHERE: Final = "0.0.0.0/0,::/0"
KEYWORDS: Final = {
    ("families", "ipv4,ipv6"): "both",
    ("dns_servers", EVERYWHERE): "all",
    ("outbound_cidrs", EVERYWHERE): "*",
    ("inbound_ports", "1-65535"): "*",
    ("owner_groups", "none"): "all",
}


def options(spec: CaptureSpec) -> dict[str, str]:
    """Return the configuration by options, without dashes in front: `none` for what is left out, lists with commas."""
    return {
        OPTIONS.get(field, field.replace("_", "-")): _value(field, value)
        for field, value in to_shown_settings(spec).items()
    }


def difference(before: Observed, now: Record) -> str:
    """Return one line on what `now` changes of what it has replaced, as far as that was recorded."""
    record = from_comments(before.about)
    if record:
        changes = ", ".join(_changes(record, now))
        return f"changed: {changes or 'no option; rules or routes were not as they should be'}"
    version = recorded_version(before.about)
    if version:
        return f"changed: meshdns {version} -> {now.version}, and options that only the former can read"
    return "changed: it cannot be told what, because what was there had no record"


def _changes(before: Record, now: Record) -> Iterator[str]:
    old = options(before.spec)
    for name, value in options(now.spec).items():
        if value != old[name]:
            yield f"{name} {old[name]} -> {value}"
    if replace(before.spec, named_servers=now.spec.named_servers) == now.spec != before.spec:
        yield f"dns-servers asked for by address {_named(before.spec)} -> {_named(now.spec)}"
    for name, was, value in (("backend", before.backend, now.backend), ("meshdns", before.version, now.version)):
        if value != was:
            yield f"{name} {was} -> {value}"


def _named(spec: CaptureSpec) -> str:
    return "not recorded" if spec.named_servers is None else ",".join(map(str, spec.named_servers)) or "none"


def _value(field: str, value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, bool):
        return "on" if value else "off"
    items = value if isinstance(value, list) else [] if value is None else [value]
    text = ",".join(str(item).removesuffix(".0") if isinstance(item, float) else str(item) for item in items) or "none"
    return KEYWORDS.get((field, text), text)
