"""The Helm chart, rendered by helm and judged by kubeconform: its pods are those of `meshdns inject`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from meshdns.init.version import VERSION

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "meshdns"
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
OLDEST, NEWEST = "1.29.0", "1.37.0"
ENTRIES = "entries:\n  page.yaml: |\n    kind: ServiceEntry\n"
SAMPLE = "sample: {enabled: true}\n"


def _helm(*arguments: str, values: str = "", chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    command = ["helm", *arguments, str(chart), "--values", "-"]
    return subprocess.run(command, input=values, capture_output=True, text=True, check=False, timeout=50)


def _render(values: str = "") -> list[dict[str, Any]]:
    done = _helm("template", "release", values=values)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def _standalone(schema: Any, definitions: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return a schema with what it refers to in place: kubeconform does not follow references to files beside it."""
    if isinstance(schema, list):
        return [_standalone(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _standalone(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _standalone(value, definitions) for key, value in schema.items()}


@pytest.fixture(params=[OLDEST, NEWEST])
def schemas(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a directory of schemas as kubeconform reads them, of one version of Kubernetes."""
    of_version = SCHEMAS / f"v{request.param}-local-strict"
    definitions = json.loads((of_version / "_definitions.json").read_text())["$defs"]
    for name in ("configmap-v1.json", "deployment-apps-v1.json"):
        (tmp_path / name).write_text(json.dumps(_standalone(json.loads((of_version / name).read_text()), definitions)))
    return tmp_path


def _conforms(text: str, schemas: Path) -> subprocess.CompletedProcess[str]:
    command = [
        "kubeconform",
        "-strict",
        "-schema-location",
        f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        "-",
    ]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=50)


def test_the_chart_has_no_fault_of_its_own() -> None:
    """`helm lint` finds nothing, and the chart is of the version that it installs."""
    done = _helm("lint", "--strict", values=ENTRIES + SAMPLE)
    assert done.returncode == 0, done.stdout + done.stderr
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == VERSION


@pytest.mark.parametrize("backend", ["auto", "nft", "iptables-legacy"])
def test_kubernetes_takes_it(backend: str, schemas: Path) -> None:
    """With every part on, each object is valid, no unknown field among them."""
    done = _helm("template", "release", values=f"{ENTRIES}{SAMPLE}backend: {backend}\n")
    judged = _conforms(done.stdout, schemas)
    assert judged.returncode == 0, judged.stdout
    broken = done.stdout.replace("readOnlyRootFilesystem", "readOnlyRoot")
    assert _conforms(broken, schemas).returncode != 0


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ("", ()),
        ("backend: nft\n", ("--backend", "nft")),
        ("backend: iptables-legacy\n", ("--backend", "iptables-legacy")),
        ('admin: "[::]:15055"\n', ("--admin", "[::]:15055")),
        (
            "configMap: others\nimage: {repository: mirror/meshdns, tag: x}\n",
            ("--configmap", "others", "--image", "mirror/meshdns:x"),
        ),
    ],
)
def test_its_pods_are_those_of_inject(values: str, options: tuple[str, ...]) -> None:
    """The pod of the sample, without what is put into it, is injected to what the chart renders."""
    (rendered,) = _render(SAMPLE + values)
    own = yaml.safe_load(yaml.safe_dump(rendered))
    pod = own["spec"]["template"]["spec"]
    del pod["initContainers"], pod["volumes"]
    command = [sys.executable, "-m", "meshdns.init.cli", "inject", *options, "-f", "-"]
    done = subprocess.run(command, input=yaml.safe_dump(own), capture_output=True, text=True, check=True, timeout=50)
    assert yaml.safe_load(done.stdout) == rendered


def test_without_values_there_is_nothing() -> None:
    """Nothing is made that nobody asked for; with entries there is their ConfigMap, as they were written."""
    assert _render() == []
    (entries,) = _render(ENTRIES)
    assert entries["kind"] == "ConfigMap"
    assert entries["data"] == {"page.yaml": "kind: ServiceEntry\n"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ("entrys: {}\n", "entrys"),
        ("backend: ebpf\n", "/backend"),
        ("admin: localhost\n", "/admin"),
        ("admin: 127.0.0.1:15054\n", "/admin"),
        ("admin: 0.0.0.0:15053\n", "/admin"),
        ("entries: {page.txt: a}\n", "page.txt"),
        ("image: {pull: Always}\n", "pull"),
    ],
)
def test_wrong_values_are_refused(values: str, named: str) -> None:
    """A misspelt key or a value of another kind ends the rendering, and names the key."""
    done = _helm("template", "release", values=values)
    assert done.returncode != 0
    assert named in done.stderr


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("shop", ENTRIES, "shop-meshdns-entries"),
        ("meshdns", ENTRIES, "meshdns-entries"),
        ("shop", f"{ENTRIES}configMap: others\n", "others"),
        ("shop", "", "meshdns-entries"),
    ],
)
def test_each_release_has_entries_of_its_own(release: str, values: str, name: str) -> None:
    """Releases of a namespace make ConfigMaps of different names, and pods mount their own; without one, the shared."""
    done = _helm("template", release, values=SAMPLE + values)
    found = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert found["Deployment"]["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == name
    assert ("ConfigMap" in found) is bool(values)
    assert not values or found["ConfigMap"]["metadata"]["name"] == name


@pytest.fixture
def dependent(tmp_path: Path) -> Path:
    """Return a chart that depends on this one, on a condition, and puts it into its pod as _pod.tpl says."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "meshdns").symlink_to(CHART)
    (tmp_path / "Chart.yaml").write_text(
        "apiVersion: v2\nname: own\nversion: 1.0.0\n"
        f"dependencies: [{{name: meshdns, version: {VERSION}, condition: meshdns.enabled}}]\n"
    )
    (said,) = re.findall(r"^    spec:\n((?: {6}.*\n)+)", (CHART / "templates" / "_pod.tpl").read_text(), re.MULTILINE)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "pod.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: own}\n"
        f"spec:\n      containers: [{{name: app, image: a}}]\n{said}"
    )
    return tmp_path


def test_another_chart_puts_it_into_its_own_pods(dependent: Path) -> None:
    """A chart that depends on this one includes containers and volumes by their names; values say what is mounted."""
    done = _helm("template", "release", values="meshdns: {configMap: others}\n", chart=dependent)
    assert done.returncode == 0, done.stderr
    pod = yaml.safe_load(done.stdout)["spec"]
    assert [one["name"] for one in pod["initContainers"]] == ["meshdns-capture", "meshdns-resolver"]
    assert pod["volumes"][0]["configMap"]["name"] == "others"


def test_another_chart_leaves_it_out(dependent: Path) -> None:
    """Where the condition of the dependency is false, the same template renders the pod without it."""
    done = _helm("template", "release", values="meshdns: {enabled: false}\n", chart=dependent)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["spec"] == {"containers": [{"name": "app", "image": "a"}]}
