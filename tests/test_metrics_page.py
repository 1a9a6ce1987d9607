"""docs/metrics.md lists every metric that a resolver with its relay exposes, and no other."""

from __future__ import annotations

import os
from pathlib import Path

from ports import free_port
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from resolving import ADDRESS_AND_AUTO, running

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
HEAD_LINES = 10

WITHOUT_SAMPLES = {"meshdns_relay_failures": ("host", "reason")}
"""What a resolver has no sample of while nothing fails, with its labels."""


def test_golden_page(tmp_path: Path) -> None:
    """The page's table is what the running resolver says of its metrics; `make golden` writes it anew."""
    entries = tmp_path / "entries"
    entries.mkdir()
    (entries / "a.yaml").write_text(ADDRESS_AND_AUTO)
    options = ("--relay", "--relay-listen", f"127.0.0.1:{free_port()}", "--heartbeat", "--proxy-uid", str(os.getuid()))
    with running(entries, tmp_path / "home", *options) as one:
        one.ask("auto.internal")
        one.ask("www.example")
        families = list(text_string_to_metric_families(one.get("/metrics")[1]))
    rows = [f"| `{family.name}` | {family.type} | {_labels(family)} | {family.documentation} |" for family in families]
    head = PAGE.read_text().splitlines()[:HEAD_LINES]
    expected = "\n".join((*head, *rows)) + "\n"
    if os.environ.get("MESHDNS_GOLDEN") == "rewrite":
        PAGE.write_text(expected)
    assert PAGE.read_text() == expected


def _labels(family: Metric) -> str:
    found = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
    found |= dict.fromkeys(WITHOUT_SAMPLES.get(family.name, ()))
    return ", ".join(f"`{label}`" for label in found)
