"""What `meshdns inject` makes of each kind of object, word for word, and that the API server's schemas accept it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from meshdns.init.cli import run

HERE = Path(__file__).parent
REWRITE = os.environ.get("MESHDNS_GOLDEN") == "rewrite"

CASES: dict[str, tuple[str, list[str]]] = {
    "pod": ("pod.yaml", []),
    "deployment": ("deployment.yaml", []),
    "statefulset": ("statefulset.yaml", []),
    "daemonset": ("daemonset.yaml", []),
    "replicaset": ("replicaset.yaml", []),
    "job": ("job.yaml", []),
    "cronjob": ("cronjob.yaml", []),
    "list": ("list.yaml", []),
    "pods-json": ("pods.json", []),
    "comments": ("comments.yaml", []),
    "comments-classic": ("comments.yaml", ["--classic"]),
    "classic": ("deployment.yaml", ["--classic"]),
    "iptables-legacy": ("statefulset.yaml", ["--backend", "iptables-legacy"]),
    "ipv6": ("pod.yaml", ["--admin", "[::]:15054"]),
    "other-names": (
        "pod.yaml",
        ["--image", "registry.example/mesh/meshdns@sha256:" + 64 * "0", "--configmap", "names", "--namespace", "123"],
    ),
}
"""Name of the golden file -> manifest and options."""

VERSIONS = ("1.29", "1.33", "1.37")
"""Kubernetes with sidecars: the first that has them unasked, the first where they are stable, the newest known."""


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name files as a user beside them would."""
    monkeypatch.chdir(HERE / "manifests")


def injected(case: str, capfdbinary: pytest.CaptureFixture[bytes]) -> str:
    """Return what a case prints."""
    manifest, options = CASES[case]
    assert run(["inject", "-f", manifest, *options]) == 0
    shown = capfdbinary.readouterr()
    assert shown.err == b""
    return shown.out.decode()


@pytest.mark.parametrize("case", CASES)
def test_what_is_printed_is_the_golden_one(case: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """What inject makes of an object changes only on purpose."""
    text = injected(case, capfdbinary)
    golden = HERE / "golden" / f"{case}.yaml"
    if REWRITE:
        golden.write_text(text)
    assert text == golden.read_text()


def test_no_golden_file_is_left_over() -> None:
    """Every golden file belongs to a case, every manifest is used by one."""
    assert {file.stem for file in (HERE / "golden").iterdir()} == set(CASES)
    assert {file.name for file in (HERE / "manifests").iterdir()} == {manifest for manifest, _ in CASES.values()}


def objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a text, those in lists too, as a client of the API server reads them."""
    for document in yaml.safe_load_all(text):
        kind = document["kind"].removesuffix("List")
        items = document["items"] if kind != document["kind"] else [document]
        for item in items:
            yield {"apiVersion": document["apiVersion"], "kind": kind, **item}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_it(case: str, version: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Every object that is printed is valid by the schemas of Kubernetes, no unknown field among its own."""
    found = list(objects(injected(case, capfdbinary)))
    assert found
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_refuse_what_is_wrong(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A field that Kubernetes does not know in our container is found by the check above."""
    (pod,) = objects(injected("pod", capfdbinary))
    pod["spec"]["initContainers"][0]["securityContext"]["capability"] = ["NET_ADMIN"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, "1.33", strict=True)
