"""What entries say against each other, and when they meet at all."""

from __future__ import annotations

import pytest

from meshdns.resolver.source.conflicts import conflicts, seen_together
from meshdns.resolver.source.entry import Meta, Origin, Port, ServiceEntry


def entry(line: int, *protocols: str, namespace: str = "ns1", export_to: tuple[str, ...] = ()) -> ServiceEntry:
    ports = tuple(Port(80 + index, f"p{index}", protocol) for index, protocol in enumerate(protocols))
    return ServiceEntry(Meta(Origin("a.yaml", line), namespace, f"e{line}"), ("a.x",), ports=ports, export_to=export_to)


def test_contradicting_protocols() -> None:
    """A port whose protocol another entry of the host gives otherwise is told at the later of the two."""
    found = conflicts([entry(1, "HTTP", "TCP"), entry(9, "HTTP", "TLS"), entry(20, "", "TLS")])
    assert [f"{problem.rule} {problem}" for problem in found] == [
        "SE201 a.yaml:9: spec.ports[1].protocol: TLS for a.x, but TCP at a.yaml:1",
        "SE201 a.yaml:20: spec.ports[0].protocol: no protocol for a.x, but HTTP at a.yaml:1",
        "SE201 a.yaml:20: spec.ports[1].protocol: TLS for a.x, but TCP at a.yaml:1",
    ]


def test_entries_that_nobody_sees_together() -> None:
    """Entries that exportTo keeps apart are in no conflict."""
    assert conflicts([entry(1, "HTTP", export_to=(".",)), entry(2, "TCP", namespace="ns2", export_to=(".",))]) == []


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ((), (), True),
        (("*",), (".",), True),
        ((), ("~",), False),
        (("~",), ("~",), False),
        ((".",), (".",), False),
        (("ns2",), (".",), True),
        (("ns3",), ("ns4",), False),
        (("ns3", "ns4"), ("ns4",), True),
    ],
)
def test_seen_together(one: tuple[str, ...], other: tuple[str, ...], *, together: bool) -> None:
    """Two entries meet if some namespace sees both, whichever is asked first."""
    first, second = entry(1, export_to=one), entry(2, namespace="ns2", export_to=other)
    assert seen_together(first, second) is together
    assert seen_together(second, first) is together
