"""The other names of a name."""

from __future__ import annotations

import pytest

from meshdns.resolver.table.aliases import guarded_parents, search_keys, service_host, short_names
from meshdns.resolver.table.names import to_key, to_text


def test_short_names() -> None:
    """A Service has its short names; the bare one only in our own namespace."""
    assert service_host("web", "shop", "cluster.local") == "web.shop.svc.cluster.local"
    assert short_names("web", "shop", "default") == ("web.shop", "web.shop.svc")
    assert short_names("web", "shop", "shop") == ("web", "web.shop", "web.shop.svc")


SEARCH: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "a pod's": (
        ("default.svc.cluster.local", "svc.cluster.local", "cluster.local"),
        ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"],
    ),
    "longest first": (("local", "cluster.local"), ["cluster.local", "local"]),
    "each once": (("a.test", "A.test."), ["a.test"]),
    "the root is none": ((".", "a.test"), ["a.test"]),
    "what is no name is none": (("a..b", "-", "bücher"), ["-"]),
    "none": ((), []),
}


@pytest.mark.parametrize(("search", "expected"), SEARCH.values(), ids=SEARCH.keys())
def test_search_keys(search: tuple[str, ...], expected: list[str]) -> None:
    """Search suffixes are keys, the longest first, whatever their order and spelling."""
    assert [to_text(key) for key in search_keys(search)] == expected


def test_guarded_parents() -> None:
    """The cluster domain, the search suffixes and all that is above them."""
    guarded = guarded_parents("cluster.local", search_keys(("default.svc.cluster.local", "corp.example")))
    expected = (
        "default.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "local",
        "corp.example",
        "example",
        ".",
    )
    assert {to_text(key) for key in guarded} == set(expected)
    assert to_key("other.svc.cluster.local") not in guarded
