"""deploy/kubernetes and the kustomize component render what `meshdns inject` prints, and Kubernetes takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"
OLDEST, NEWEST = "1.29", "1.37"
"""Native sidecars are on by default since 1.29; the newest is what the schemas have."""

WORKLOADS = """\
apiVersion: apps/v1
kind: {kind}
metadata:
  name: any
spec:
  selector: {{matchLabels: {{app: any}}}}
  template:
    metadata: {{labels: {{app: any}}}}
    spec:
      initContainers: [{{name: prepare, image: a}}]
      containers: [{{name: app, image: b}}]
      volumes: [{{name: data, emptyDir: {{}}}}]
"""


def _render(directory: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=True, timeout=50
    )
    return list(yaml.safe_load_all(done.stdout))


def _inject(text: str) -> str:
    inject = [sys.executable, "-m", "meshdns.init.cli", "inject", "-f", "-"]
    return subprocess.run(inject, input=text, capture_output=True, text=True, check=True, timeout=50).stdout


def _kustomization(home: Path, manifest: str) -> Path:
    """Return a kustomization of this manifest with the component, beside it as kustomize wants it."""
    shutil.copytree(DEPLOY / "kustomize", home / "meshdns")
    (home / "own").mkdir()
    (home / "own" / "workload.yaml").write_text(manifest)
    (home / "own" / "kustomization.yaml").write_text("resources: [workload.yaml]\ncomponents: [../meshdns]\n")
    return home / "own"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_sample_is_what_kubernetes_takes(version: str) -> None:
    """The sample renders to a ConfigMap and a Deployment that are valid, no unknown field among them."""
    found = {one["kind"]: one for one in _render(DEPLOY / "kubernetes")}
    assert set(found) == {"ConfigMap", "Deployment"}
    for one in found.values():
        kubernetes_validate.validate(one, version, strict=True)
    assert yaml.safe_load(_inject((DEPLOY / "kubernetes" / "app.yaml").read_text())) == found["Deployment"]


def test_golden_plain_manifest() -> None:
    """deploy/kubernetes/injected.yaml, for those without kustomize, is the sample injected."""
    text = _inject((DEPLOY / "kubernetes" / "app.yaml").read_text())
    if os.environ.get("MESHDNS_GOLDEN") == "rewrite":
        (DEPLOY / "kubernetes" / "injected.yaml").write_text(text)
    assert (DEPLOY / "kubernetes" / "injected.yaml").read_text() == text


def test_the_samples_entries_are_good(tmp_path: Path) -> None:
    """The files of the sample's ConfigMap have nothing that `check` would warn of."""
    (entries,) = yaml.safe_load_all((DEPLOY / "kubernetes" / "entries.yaml").read_text())
    for name, text in entries["data"].items():
        (tmp_path / name).write_text(text)
    check = [sys.executable, "-m", "meshdns.init.cli", "resolver", "check", str(tmp_path)]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 errors, 0 warnings" in done.stdout


def by_name(volumes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort what kustomize and inject put in different orders, which Kubernetes does not mind."""
    return sorted(volumes, key=lambda volume: str(volume["name"]))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_the_component_injects_as_inject_does(kind: str, tmp_path: Path) -> None:
    """A workload with containers and volumes of its own gets ours in the same places; what is its own stays."""
    manifest = WORKLOADS.format(kind=kind)
    (rendered,) = _render(_kustomization(tmp_path, manifest))
    wanted = yaml.safe_load(_inject(manifest))
    pod, expected = (one["spec"]["template"]["spec"] for one in (rendered, wanted))
    assert pod["initContainers"] == expected["initContainers"]
    assert pod["containers"] == expected["containers"]
    assert by_name(pod["volumes"]) == by_name(expected["volumes"])


def test_who_opts_out_is_left_alone(tmp_path: Path) -> None:
    """A workload annotated meshdns.io/inject: "false" stays as it is."""
    manifest = WORKLOADS.format(kind="Deployment").replace(
        "name: any\n", 'name: any\n  annotations: {meshdns.io/inject: "false"}\n', 1
    )
    (rendered,) = _render(_kustomization(tmp_path, manifest))
    assert rendered == yaml.safe_load(manifest)
