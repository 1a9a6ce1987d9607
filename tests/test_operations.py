"""Alerts and dashboard: what they ask for exists, the alerts do what they say, and each has its page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

TREE = Path(__file__).parent.parent
PROMETHEUS = TREE / "deploy" / "prometheus"
DASHBOARD = json.loads((TREE / "deploy" / "grafana" / "meshdns.json").read_text())
PAGE = (TREE / "docs" / "operations.md").read_text()
ALERTS = {
    rule["alert"]: rule for rule in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"][0]["rules"]
}
EXPRESSIONS = {
    **{name: rule["expr"] for name, rule in ALERTS.items()},
    **{
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    },
}


def _promtool(*arguments: str, cwd: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool", path=f"{TREE / '.peers' / 'bin'}:/usr/bin")
    if found is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    return subprocess.run([found, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=50)


def test_alerts_fire_for_what_they_are_about() -> None:
    """Prometheus takes the rules; each alert fires in its case of alerts_test.yaml and is silent when all is well."""
    checked = _promtool("check", "rules", "alerts.yaml")
    assert checked.returncode == 0, checked.stderr
    tested = _promtool("test", "rules", "alerts_test.yaml")
    assert tested.returncode == 0, tested.stdout
    cases = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text())["tests"]
    fired = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one.get("exp_alerts")}
    silent = {one["alertname"] for case in cases for one in case["alert_rule_test"] if not one.get("exp_alerts")}
    assert fired == silent == set(ALERTS)


def test_an_alert_that_fires_for_nothing_is_noticed(tmp_path: Path) -> None:
    """What the test above goes by fails for a rule that always fires."""
    broken = (PROMETHEUS / "alerts.yaml").read_text().replace("meshdns_heartbeat_gap_seconds > 2", "vector(3) > 2")
    (tmp_path / "alerts.yaml").write_text(broken)
    shutil.copy(PROMETHEUS / "alerts_test.yaml", tmp_path)
    assert _promtool("test", "rules", "alerts_test.yaml", cwd=tmp_path).returncode != 0


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_metric_exists(name: str) -> None:
    """What an alert or a panel asks for is in docs/metrics.md, with the labels that it goes by."""
    known = {
        metric: (kind, set(re.findall(r"`(\w+)`", labels)))
        for metric, kind, labels in re.findall(
            r"^\| `(\w+)` \| (\w+) \| (.*?) \|", (TREE / "docs" / "metrics.md").read_text(), re.MULTILINE
        )
    }
    expression = EXPRESSIONS[name]
    for series, selector in re.findall(r"\b(meshdns_\w+)(?:\{(.*?)\})?", expression):
        kind, labels = known[re.sub(r"_(total|bucket)$", "", series)]
        assert series.endswith({"counter": "_total", "histogram": "_bucket", "gauge": ""}[kind])
        assert set(re.findall(r"(\w+)!?=", selector)) <= {*labels, "instance"}
    grouped = {label for group in re.findall(r"by \(([\w, ]+)\)", expression) for label in group.split(", ")}
    all_labels = set().union(*(known[re.sub(r"_(total|bucket)$", "", series)][1]
                               for series in re.findall(r"\bmeshdns_\w+", expression)))  # fmt: skip
    assert grouped <= {*all_labels, "instance", "le"}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_its_page(name: str) -> None:
    """The runbook of an alert is a heading of docs/operations.md with something to do under it."""
    assert ALERTS[name]["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    section = PAGE.partition(f"\n### {name}\n")[2].partition("\n#")[0]
    assert "meshdns " in section or "kubectl " in section


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Panels have ids of their own, lie on the grid of 24 columns, and none covers another."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered: set[tuple[int, int]] = set()
    for at in (panel["gridPos"] for panel in panels):
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & covered
        covered |= cells
