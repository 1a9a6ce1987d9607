"""What is exposed is what was counted, in a form that Prometheus reads."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from resolving import ADDRESS_AND_AUTO, running

from meshdns.resolver.query.decision import COUNTED_TYPES
from meshdns.resolver.serve.metrics import TYPE_NAMES, Durations, Histogram, Metric, exposition, number

NAME = re.compile(r"meshdns_[a-z][a-z_]*")


def test_the_text_says_what_was_given() -> None:
    """Counters, gauges, labels and histograms come back from Prometheus's own parser as they were given."""
    given: list[Metric | Histogram] = [
        number("meshdns_one", "gauge", "One.", 1.5),
        Metric("meshdns_two", "counter", "Two.", ("kind",), [(('a"\n\\',), 2)]),
        Histogram("meshdns_three_seconds", "Three.", "source", (0.1, 1.0), {"cache": ([1, 2, 3], 7.5)}),
        Histogram("meshdns_four_seconds", "Four.", "", (0.1,), {"": ([1, 0], 0.05)}),
    ]
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition(given).decode())
        for sample in family.samples
    }
    assert samples["meshdns_one", ()] == 1.5
    assert samples["meshdns_two_total", (("kind", 'a"\n\\'),)] == 2
    assert samples["meshdns_three_seconds_bucket", (("le", "1.0"), ("source", "cache"))] == 3
    assert samples["meshdns_three_seconds_count", (("source", "cache"),)] == 6
    assert samples["meshdns_three_seconds_sum", (("source", "cache"),)] == 7.5
    assert samples["meshdns_four_seconds_bucket", (("le", "+Inf"),)] == 1


def test_answers_at_once_are_in_the_histogram() -> None:
    """What the cache answered without a look at the clock counts among its answers, under the smallest bound."""
    durations = Durations()
    assert durations.histogram(0).series == {}
    counts, total_s = durations.histogram(3).series["cache"]
    assert (counts[0], sum(counts), total_s) == (3, 3, 0.0)
    assert durations.histogram(0).series == {}


def test_every_type_that_is_counted_apart_has_a_name() -> None:
    """No type is counted and then shown as `other`, and none has a name that no count ever gets."""
    assert set(TYPE_NAMES) == COUNTED_TYPES


def test_a_running_resolver_counts_its_answers(tmp_path: Path) -> None:
    """Each answer is counted once, under transport, type, source and RCODE; every name and label is well-formed."""
    entries = tmp_path / "entries"
    entries.mkdir()
    (entries / "a.yaml").write_text(ADDRESS_AND_AUTO)
    with running(entries, tmp_path / "home") as one:
        for _ in range(3):
            one.ask("auto.internal")
        one.ask("auto.internal", "MX", tcp=True)
        families = list(text_string_to_metric_families(one.get("/metrics")[1]))
    samples = [sample for family in families for sample in family.samples]
    assert all(NAME.fullmatch(sample.name) and all(sample.labels) for sample in samples)
    counted = {
        tuple(sample.labels[key] for key in ("transport", "type", "source", "rcode")): sample.value
        for sample in samples
        if sample.name == "meshdns_queries_total"
    }
    assert counted == {("udp", "A", "local", "NOERROR"): 3, ("tcp", "MX", "local", "NOERROR"): 1}
