"""What is said of a configuration can be typed again, and of two of them what differs and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace

import click
import pytest
from capture_cases import CASES
from capturing import SPEC, servers, spec

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.install import new_record
from meshdns.capture.apply.record import Record, to_comments
from meshdns.capture.dialects.observed import Observed
from meshdns.capture.policy.spec import CaptureSpec, OnResolverDown
from meshdns.init.capture_spec import to_spec
from meshdns.init.capture_words import difference, options
from meshdns.init.commands.capture import install

WITHOUT_OPTION = {"heartbeat-mark", "ct-zone", "pools"}
NOW = new_record(SPEC, BACKENDS["nft"](), "2.0.0", 1)
NOT_TYPED = {"no-proxy-gid", "inbound-proxy-mark", "no-server", "all-servers-ipv4", "all-servers-ipv6-closed"}
"""Specs that no options come to: an empty list cannot be typed, and `all` means both families."""


def _typed(said: dict[str, str]) -> Iterator[str]:
    for name, value in said.items():
        if value in {"on", "off"}:
            yield from [f"--{name}"] if value == "on" else [f"--no-{name}"] if name == "dns" else []
        elif name not in {*WITHOUT_OPTION, "resolv-conf"} and value != "none":
            yield f"--{name}={value}"


@pytest.mark.parametrize("case", sorted(set(CASES) - NOT_TYPED))
def test_what_is_said_can_be_typed(case: str) -> None:
    """The options said of a configuration, given to `install`, come to that configuration."""
    typed = list(_typed(options(CASES[case])))
    with install.make_context("install", typed, help_option_names=[]) as ctx:
        made, _ = to_spec(ctx.params)
    assert _without_constants(made) == _without_constants(CASES[case])


def _without_constants(one: CaptureSpec) -> CaptureSpec:
    return replace(one, ct_zone=SPEC.ct_zone, heartbeat_mark=SPEC.heartbeat_mark, pools=SPEC.pools)


def test_every_word_is_an_option() -> None:
    """Each field is called as an option of `install` is, but for those that have none."""
    known = {name.removeprefix("--") for one in install.params if isinstance(one, click.Option) for name in one.opts}
    assert set(options(SPEC)) - known == WITHOUT_OPTION


CHANGES: dict[str, tuple[Record, str]] = {
    "one value": (
        replace(NOW, spec=spec(proxy_uids=(995,))),
        "changed: proxy-uid 995 -> 1337",
    ),
    "several options, in the order of the options": (
        replace(NOW, spec=spec(drop_invalid=True, proxy_mark=77, dns_servers=servers("10.96.0.10"))),
        "changed: proxy-mark 77 -> none, dns-servers 10.96.0.10 -> 10.96.0.10,fd00:96::10, drop-invalid on -> off",
    ),
    "keywords": (
        replace(NOW, spec=spec(dns_servers=servers("0.0.0.0/0", "::/0"), owner_groups=(5,))),
        "changed: dns-servers all -> 10.96.0.10,fd00:96::10, owner-group 5 -> all",
    ),
    "numbers, without a fraction that is none": (
        replace(NOW, spec=spec(heartbeat_timeout_s=3.5, on_resolver_down=OnResolverDown.CLOSED)),
        "changed: on-resolver-down closed -> open, heartbeat-timeout 3.5 -> 3600",
    ),
    "the backend": (replace(NOW, backend="iptables-legacy"), "changed: backend iptables-legacy -> nft"),
    "the version": (replace(NOW, version="1.9.9"), "changed: meshdns 1.9.9 -> 2.0.0"),
    "servers that are named, not listed": (
        replace(NOW, spec=spec(named_servers=servers("10.96.0.10"))),
        "changed: dns-servers asked for by address 10.96.0.10 -> not recorded",
    ),
    "nothing that is recorded": (NOW, "changed: no option; rules or routes were not as they should be"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_differs_is_said(case: str) -> None:
    """A record and the one that it gives way to: one line with old and new value of what differs."""
    before, line = CHANGES[case]
    assert difference(Observed(present=True, about=to_comments(before, 128)), NOW) == line


def test_what_cannot_be_read_is_said() -> None:
    """Where the record is gone, or is another version's to read, nobody claims to know what changed."""
    emptied = Observed(present=True)
    assert difference(emptied, NOW) == "changed: it cannot be told what, because what was there had no record"
    comment = base64.b64encode(b'{"version":"3.0.0","spec":{}}').decode()
    unread = Observed(present=True, about=(comment[:9], comment[9:]))
    assert difference(unread, NOW) == "changed: meshdns 3.0.0 -> 2.0.0, and options that only the former can read"
