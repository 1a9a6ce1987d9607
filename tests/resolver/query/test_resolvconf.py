"""resolv.conf files as people and programs write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshdns.resolver.query.resolvconf import NAME_LENGTH_MAX, WARNINGS_MAX, parse

BOTH_LOOPBACKS = ["127.0.0.1", "::1"]

CASES = {
    "empty file": ("", BOTH_LOOPBACKS, []),
    "comments only": ("# nameserver 192.0.2.1\n; nameserver 192.0.2.2\n", BOTH_LOOPBACKS, []),
    "one server": ("nameserver 192.0.2.1\n", ["192.0.2.1"], []),
    "no newline at the end": ("nameserver 192.0.2.1", ["192.0.2.1"], []),
    "more than the three that glibc uses": (
        "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6)),
        [f"192.0.2.{n}" for n in range(1, 6)],
        [],
    ),
    "carriage returns and tabs": (
        "nameserver\t192.0.2.1\r\n\tnameserver \t 2001:db8::1 \r\nsearch\tA.example\t\r\n",
        ["192.0.2.1", "2001:db8::1"],
        ["a.example"],
    ),
    "unspecified addresses mean this machine": ("nameserver 0.0.0.0\nnameserver ::\n", BOTH_LOOPBACKS, []),
    "a server given twice is one server": ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n", ["192.0.2.1"], []),
    "a link-local server keeps its interface": ("nameserver fe80::1%eth0\n", ["fe80::1%eth0"], []),
    "an IPv4-mapped server is the IPv4 server": ("nameserver ::ffff:192.0.2.7\n", ["192.0.2.7"], []),
    "text behind the address": ("nameserver 192.0.2.1 # office\n", ["192.0.2.1"], []),
    "the last search line wins": (
        "search a.example\nsearch b.example c.example\n",
        BOTH_LOOPBACKS,
        "b.example c.example",
    ),
    "domain after search wins": ("search a.example b.example\ndomain c.example d\n", BOTH_LOOPBACKS, "c.example"),
    "search after domain wins": (
        "domain c.example\nsearch a.example b.example\n",
        BOTH_LOOPBACKS,
        "a.example b.example",
    ),
    "search without a name changes nothing": ("search a.example\nsearch\n", BOTH_LOOPBACKS, "a.example"),
    "search names lose case and trailing dot": (
        "search NS1.Svc.Cluster.Local. x.\n",
        BOTH_LOOPBACKS,
        "ns1.svc.cluster.local x",
    ),
    "the root as search list is none": ("search .\n", BOTH_LOOPBACKS, []),
    "comment behind search": ("search a.example # b.example\n", BOTH_LOOPBACKS, "a.example"),
    "words that only start alike": ("nameservers 192.0.2.1\nsearching a\n", BOTH_LOOPBACKS, []),
    "options are for stub resolvers": ("options ndots:5 timeout:1\nsortlist 192.0.2.0\n", BOTH_LOOPBACKS, []),
    "no other character ends a line": (
        "search a.example\u2028nameserver\x0b192.0.2.1\n",
        BOTH_LOOPBACKS,
        "a.example nameserver 192.0.2.1",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_file_is_read_as_resolv_conf_5_says(case: str) -> None:
    """Every usable line counts, the last search list wins, no nameserver line means this machine; no warning."""
    text, nameservers, search = CASES[case]
    conf = parse(text)
    assert [str(server) for server in conf.nameservers] == nameservers
    assert list(conf.search) == (search.split() if isinstance(search, str) else search)
    assert conf.warnings == ()


NO_ADDRESS = "line {}: cannot use nameserver {!r}: it is not an IP address"

UNUSABLE = {
    "a name": ("nameserver dns.example\n", NO_ADDRESS.format(1, "dns.example")),
    "no address": ("\nnameserver\n", NO_ADDRESS.format(2, "")),
    "a port": ("nameserver 192.0.2.1:53\n", NO_ADDRESS.format(1, "192.0.2.1:53")),
    "brackets": ("nameserver [::1]\n", NO_ADDRESS.format(1, "[::1]")),
    "leading zeros": ("nameserver 192.0.2.010\n", NO_ADDRESS.format(1, "192.0.2.010")),
    "interface of an IPv4 address": ("nameserver 192.0.2.1%lo\n", NO_ADDRESS.format(1, "192.0.2.1%lo")),
    "interface left out": ("nameserver fe80::1%\n", NO_ADDRESS.format(1, "fe80::1%")),
    "two dots": ("search a..b\n", "line 1: cannot use search 'a..b': it is not a name"),
    "label too long": (f"domain {'x' * 64}\n", f"line 1: cannot use domain '{'x' * 64}': it is not a name"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_line_is_skipped_with_a_warning_that_names_it(case: str) -> None:
    """What cannot be used is left out, named by its line, and what remains is used."""
    text, warning = UNUSABLE[case]
    conf = parse(text + "nameserver 192.0.2.9\nsearch good.example\n")
    assert [str(server) for server in conf.nameservers] == ["192.0.2.9"]
    assert conf.search == ("good.example",)
    assert conf.warnings == (warning,)


def test_only_unusable_nameserver_lines_mean_this_machine() -> None:
    """A file whose every nameserver line is unusable is a file without one."""
    assert [str(server) for server in parse("nameserver x\n").nameservers] == BOTH_LOOPBACKS


def test_a_file_that_is_something_else_is_not_repeated_in_warnings() -> None:
    """Warnings are bounded in number and in length, whatever the file holds."""
    conf = parse("nameserver {}\n".format("x" * 1_000_000) * 50)
    assert len(conf.warnings) == WARNINGS_MAX + 1
    assert conf.warnings[-1] == f"further lines that cannot be used: {50 - WARNINGS_MAX}"
    assert all(len(warning) < NAME_LENGTH_MAX + 80 for warning in conf.warnings)


@given(st.text())
def test_any_text_gives_at_least_one_nameserver(text: str) -> None:
    """No text is an error, and there is always a server to ask."""
    conf = parse(text)
    assert conf.nameservers
    assert all(name == name.lower() and not name.endswith(".") for name in conf.search)
