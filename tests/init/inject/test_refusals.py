"""Pods that stay as they are: what is said of them, the exit code, and that nothing is printed."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from meshdns.init.cli import run

APP: dict[str, Any] = {"name": "app", "image": "app:1"}


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Let standard input hold `data`."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def pod(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever a field may hold
    """Return a pod that has what `spec` says, or one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": annotations or {}},
        "spec": {"containers": [APP], **spec},
    }


def job(kind: str = "Job") -> dict[str, Any]:
    """Return a Job, or a CronJob around one."""
    one = {"template": {"spec": {"restartPolicy": "Never", "containers": [APP]}}}
    spec = one if kind == "Job" else {"schedule": "@daily", "jobTemplate": {"spec": one}}
    return {"apiVersion": "batch/v1", "kind": kind, "metadata": {"name": "p"}, "spec": spec}


def containers(**more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a pod whose container says more."""
    return pod(containers=[{**APP, **more}])


def user(**ids: int) -> dict[str, Any]:
    """Return a container that runs as somebody."""
    return {**APP, "securityContext": ids}


TRAFFIC = "traffic.sidecar.istio.io/"

REFUSED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "the host's network": (pod(hostNetwork=True), [], "hostNetwork is true"),
    "Windows": (pod(os={"name": "windows"}), [], "it is for Windows"),
    "Istio's proxy": (pod(containers=[APP, {"name": "istio-proxy"}]), [], "Istio's container istio-proxy is in it"),
    "Istio's init container": (pod(initContainers=[{"name": "istio-init"}]), [], "Istio's container istio-init"),
    "Istio's check": (pod(initContainers=[{"name": "istio-validation"}]), [], "Istio's container istio-validation"),
    "our name": (pod(containers=[{"name": "meshdns-resolver"}]), [], "a container of its own called meshdns-resolver"),
    "our volume's name": (pod(volumes=[{"name": "meshdns-state"}]), [], "a volume of its own called meshdns-state"),
    "our uid": (pod(containers=[user(runAsUser=1337)]), [], "container app runs as uid 1337"),
    "our gid": (pod(containers=[user(runAsGroup=1337)]), [], "container app runs as gid 1337"),
    "our uid for the pod": (pod(securityContext={"runAsUser": 1337}), [], "container app runs as uid 1337"),
    "our uid before the app": (pod(initContainers=[user(runAsUser=1337)]), [], "container app runs as uid 1337"),
    "the DNS port": (containers(ports=[{"containerPort": 15053}]), [], "container app has port 15053"),
    "the relay's port": (containers(ports=[{"containerPort": 15001}]), [], "container app has port 15001"),
    "the admin port": (containers(ports=[{"containerPort": 15054}]), [], "container app has port 15054"),
    "another admin port": (containers(ports=[{"containerPort": 9}]), ["--admin", "0.0.0.0:9"], "has port 9,"),
    "no nameserver": (pod(dnsPolicy="None"), [], "dnsConfig names no nameserver"),
    "a job": (job(), ["--classic"], "it ends, and an ordinary container beside it never would"),
    "a cron job": (job("CronJob"), ["--classic"], "it ends, and an ordinary container beside it never would"),
    "a pod that ends": (pod(restartPolicy="Never"), ["--classic"], "it ends, and an ordinary container"),
    "a bad list": (pod({f"{TRAFFIC}excludeOutboundPorts": "80,x"}), [], "'x' is not a port"),
    "a mode that captures nothing": (pod({"sidecar.istio.io/interceptionMode": "NONE"}), [], "NONE captures nothing"),
    "a bad switch": (pod({"meshdns.io/inject": "no"}), [], "'no' is not a boolean"),
    "nobody for what comes in": (pod({f"{TRAFFIC}includeInboundPorts": "*"}), [], "to port 15006, where nothing"),
    "a bad proxy config": (pod({"proxy.istio.io/config": "["}), [], "cannot read"),
}
"""Rule -> object, options, what is said."""

TAKEN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "network of its own, said so": (pod(hostNetwork=False), []),
    "Linux": (pod(os={"name": "linux"}), []),
    "a pod that is for another uid": (pod(securityContext={"runAsUser": 1337}, containers=[user(runAsUser=1)]), []),
    "a group among others": (pod(securityContext={"fsGroup": 1337}), []),
    "the admin port when ours is another": (containers(ports=[{"containerPort": 15054}]), ["--admin", "0.0.0.0:9"]),
    "a nameserver": (pod(dnsPolicy="None", dnsConfig={"nameservers": ["10.0.0.1"]}), []),
    "a job": (job(), []),
    "a cron job": (job("CronJob"), []),
    "somebody for what comes in": (
        pod({f"{TRAFFIC}includeInboundPorts": "80"}, containers=[{**APP, "ports": [{"containerPort": 15006}]}]),
        [],
    ),
    "a switch that is on": (pod({"meshdns.io/inject": "true"}), []),
}
"""What comes near a rule and breaks none."""


@pytest.mark.parametrize("rule", REFUSED)
def test_what_is_refused_is_named(
    rule: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A refused object costs exit code 1, one line that names it, its place and the reason, and all of the output."""
    refused, options, reason = REFUSED[rule]
    give(monkeypatch, b"\n---\n".join(json.dumps(one).encode() for one in (pod(), refused)))
    assert run(["inject", "-f", "-", *options]) == 1
    shown = capfdbinary.readouterr()
    assert shown.out == b""
    assert shown.err.count(b"\n") == 1
    line = shown.err.decode()
    assert line.startswith(f"meshdns: cannot inject {refused['kind']}/p, document 2, standard input:3: "), line
    assert reason in line


@pytest.mark.parametrize("rule", TAKEN)
def test_what_comes_near_is_taken(
    rule: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """None of the rules catches more than it says."""
    taken, options = TAKEN[rule]
    give(monkeypatch, json.dumps(taken).encode())
    assert run(["inject", "-f", "-", *options]) == 0
    shown = capfdbinary.readouterr()
    assert (shown.err, shown.out.count(b'"meshdns-capture"')) == (b"", 1)


def test_each_refused_object_has_its_line(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """All that is wrong is said at once, a line for each reason."""
    items = [one for one, options, _ in REFUSED.values() if not options]
    everything = {"apiVersion": "v1", "kind": "List", "items": items}
    give(monkeypatch, json.dumps(everything).encode())
    assert run(["inject", "-f", "-"]) == 1
    shown = capfdbinary.readouterr()
    assert (shown.out, shown.err.count(b"\n")) == (b"", len(items))


def test_check_refuses_too(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A refused object goes before whatever would change."""
    give(monkeypatch, json.dumps(pod(hostNetwork=True)).encode())
    assert run(["inject", "--check", "-f", "-"]) == 1
    assert b"hostNetwork" in capfdbinary.readouterr().err


def test_an_unread_annotation_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A misspelt annotation of Istio's is told, with the nearest; the pod is injected."""
    give(monkeypatch, json.dumps(pod({f"{TRAFFIC}excludeOutboundPort": "80"})).encode())
    assert run(["inject", "-f", "-"]) == 0
    shown = capfdbinary.readouterr()
    assert b"did you mean traffic.sidecar.istio.io/excludeOutboundPorts?" in shown.err
    assert b"meshdns-resolver" in shown.out


OPTIONS: dict[str, tuple[list[str], str]] = {
    "a port that only the pod reaches": (["--admin", "127.0.0.1:15054"], "is not reached by kubelet's probes"),
    "the same in IPv6": (["--admin", "[::1]:15054"], "is not reached by kubelet's probes"),
    "the resolver's port": (["--admin", "0.0.0.0:15053"], "port 15053 is the resolver's or relay's own"),
    "the relay's port": (["--admin", "0.0.0.0:15001"], "port 15001 is the resolver's or relay's own"),
    "no image": (["--image", ""], "'' is not an image"),
    "two images": (["--image", "a b"], "'a b' is not an image"),
    "an upper-case ConfigMap": (["--configmap", "Names"], "'Names' is no name in Kubernetes"),
    "an underscore": (["--configmap", "a_b"], "letters, digits and hyphens, with dots between"),
    "a nameless ConfigMap": (["--configmap", ""], "'' is no name in Kubernetes"),
    "a namespace with dots": (["--namespace", "a.b"], "'a.b' is no name in Kubernetes"),
    "a long namespace": (["--namespace", "a" * 64], "is no name in Kubernetes"),
}
"""Options -> what is said."""


@pytest.mark.parametrize("what", OPTIONS)
def test_what_no_pod_could_run_with_is_refused(
    what: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """An option that Kubernetes or the started pod would refuse costs exit code 2 and one line that names it."""
    options, message = OPTIONS[what]
    give(monkeypatch, json.dumps(pod()).encode())
    assert run(["inject", "-f", "-", *options]) == 2
    shown = capfdbinary.readouterr()
    assert (shown.out, shown.err.count(b"\n")) == (b"", 1)
    assert f"'{options[0]}': " in shown.err.decode()
    assert message in shown.err.decode()


ODD: dict[str, bytes] = {
    "a tag before a key": b'{"apiVersion": "v1", "kind": "Pod", !!str "spec": {"containers": [{"name": "a"}]}}\n',
    "a tag before a list's key": (
        b'apiVersion: v1\nkind: List\n!!str "items":\n- {apiVersion: v1, kind: Pod, spec: {containers: [{name: a}]}}\n'
    ),
}
"""What two parsers understand in two ways."""


@pytest.mark.parametrize("what", ODD)
def test_what_cannot_be_printed_in_its_meaning_is_told(
    what: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A manifest whose meaning would change costs exit code 2 and one line that says what would do."""
    give(monkeypatch, ODD[what])
    assert run(["inject", "-f", "-"]) == 2
    shown = capfdbinary.readouterr()
    assert (shown.out, shown.err.count(b"\n")) == (b"", 1)
    assert b"write the pod in block style" in shown.err


BROKEN: dict[str, tuple[bytes, str]] = {
    "a list": (b"- a\n", "standard input:1: not a Kubernetes object: a document must be a mapping"),
    "no kind": (b"# x\n---\n\napiVersion: v1\n", "standard input:4: not a Kubernetes object: it has no kind"),
    "no apiVersion": (b"kind: Pod\n", "standard input:1: not a Kubernetes object: it has no apiVersion"),
    "no containers": (
        b"apiVersion: v1\nkind: Pod\nspec:\n  containers: []\n",
        "standard input:4: not a Pod: its pod",
    ),
    "no spec": (b"apiVersion: apps/v1\nkind: Deployment\n", "standard input:1: not a Deployment: its pod has no"),
    "a spec that is text": (
        b"apiVersion: v1\nkind: Pod\nspec: x\n",
        "standard input:3: not a Kubernetes",
    ),
    "a prefix that is not rendered": (
        b"apiVersion: v1\nkind: Pod\nmetadata:\n  generateName: [a]\nspec:\n  containers: [{name: a}]\n",
        "standard input:4: not a Kubernetes object: its generateName is no text",
    ),
    "a nameless container": (
        b"apiVersion: v1\nkind: Pod\nspec:\n  containers: [{image: x}]\n",
        "standard input:4: not a Pod: each of its containers needs a name",
    ),
    "a broken item": (b"apiVersion: v1\nkind: List\nitems:\n- x\n", "standard input:4: not a Kubernetes object"),
    "a broken list": (
        b"apiVersion: v1\nkind: PodList\nitems: x\n",
        "standard input:3: not a PodList: its items",
    ),
    "a key given twice": (b"apiVersion: v1\nkind: Pod\nkind: Pod\n", "standard input:3: key 'kind' is given twice"),
    "no YAML": (b"apiVersion: v1\nkind: Service\n---\na: [\n", "standard input:4: cannot parse"),
    "no text": (b"kind: Pod\n---\n\xff", "standard input:1: not a Kubernetes object: it has no apiVersion"),
    "bytes": (b"\xff\xfe", "standard input:1: cannot read byte 0xff: not UTF-8"),
    "50,000 brackets": (b"apiVersion: v1\nkind: Pod\nspec: " + b"[" * 50_000, "standard input:3: cannot parse"),
    "65 levels": (
        b"apiVersion: v1\nkind: Pod\nspec: " + b"[" * 65 + b"]" * 65,
        "standard input:3: more than 64",
    ),
    "a key with a mapping in it": (
        b"apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a}], {b: {c: d}}: e}\n",
        "standard input:1: cannot parse: a key has a mapping or a list in it",
    ),
    "a key with a list in it": (
        b"apiVersion: v1\nkind: Pod\nspec:\n  containers: [{name: a}]\n  ? [[b]]\n  : c\n",
        "standard input:1: cannot parse: a key has a mapping or a list in it",
    ),
    "a large file": (b"# " + b"x" * (16 << 20), "standard input: more than 16 MiB: cut it into several files"),
    "a large document": (
        b"apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a}]}\n" + b"# 34567\n" * (512 << 10),
        "standard input:1: a document of more than 4 MiB that is not all in block style",
    ),
}
"""Input -> what is said."""


POD = """apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
    - {name: app, image: app}
"""
DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: d
  labels:
    app: d
spec:
  replicas: 1
  template:
    metadata:
      name: p
      annotations: {a: b}
    spec:
      containers: [{name: app, image: app}]
"""
KEY, NO_TEXT = "a key must be a string", "not a Kubernetes object: its {} is no text"
UNRENDERED: dict[str, tuple[str, str, str, int, str]] = {
    "a pod's name": (POD, "name: p", "name: {{ .Values.x }}", 3, KEY),
    "a pod's name, one brace": (POD, "name: p", "name: {name}", 3, NO_TEXT.format("name")),
    "a pod's name, in quotes": (
        POD, "name: p", 'name: "{{ .Values.x }}-a"', 3, "not a Kubernetes object: its name is {{ .Values.x }}-a",
    ),
    "a container's name": (POD, "name: app", "name: {{ .Values.x }}", 6, KEY),
    "a container's image": (POD, "image: app", "image: {image}", 6, NO_TEXT.format("image")),
    "a part of an image": (
        POD, "{name: app, image: app}", "name: app\n      image: app:{{ .tag }}", 7,
        "not a Kubernetes object: its image is app:{{ .tag }}",
    ),
    "a kind": (DEPLOYMENT, "kind: Deployment", "kind: {{ .Values.kind }}", 2, KEY),
    "an object's name": (DEPLOYMENT, "name: d", "name: {name}", 4, NO_TEXT.format("name")),
    "a namespace": (DEPLOYMENT, "name: d", "name: d\n  namespace: {namespace}", 5, NO_TEXT.format("namespace")),
    "a label": (DEPLOYMENT, "app: d", "app: {{ .Values.x }}", 6, KEY),
    "a number": (DEPLOYMENT, "replicas: 1", "replicas: {{ .Values.x }}", 8, KEY),
    "a condition": (DEPLOYMENT, "  replicas: 1", "  {{- if .x }}\n  replicas: 1\n  {{- end }}", 8, "cannot parse"),
    "a template's name": (DEPLOYMENT, "name: p", "name: {{ .Values.x }}", 11, KEY),
    "a template's name, one brace": (DEPLOYMENT, "name: p", "name: {name}", 11, NO_TEXT.format("name")),
    "a template's annotations": (DEPLOYMENT, "{a: b}", "{{ .Values.x }}", 12, KEY),
    "a template's image": (DEPLOYMENT, "image: app", "image: {{ .Values.x }}", 14, KEY),
}  # fmt: skip
"""What is not rendered -> a manifest, what stands in it and what in its place, the line and the reason."""


@pytest.mark.parametrize("what", UNRENDERED)
def test_a_template_that_is_not_rendered_is_told(
    what: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It may well be YAML, of mappings whose keys are mappings; it costs exit code 2 and one line with its place."""
    manifest, rendered, template, line, reason = UNRENDERED[what]
    assert manifest.count(rendered) == 1
    give(monkeypatch, manifest.replace(rendered, template).encode())
    assert run(["inject", "-f", "-"]) == 2
    shown = capfdbinary.readouterr()
    assert (shown.out, shown.err.count(b"\n")) == (b"", 1)
    told = shown.err.decode()
    assert told.startswith(f"meshdns: cannot read standard input:{line}: {reason}")
    assert told.endswith(": is it a template that is not rendered?\n")


BRACES = {
    "an argument": (POD, "image: app", 'image: app, args: ["--format={{ .ID }}"]'),
    "an argument with an anchor": (POD, "image: app", 'image: app, args: &all ["--format={{ .ID }}"]'),
    "an annotation for another template": (DEPLOYMENT, "{a: b}", '{a: "{{ with secret }}"}'),
    "no annotation": (DEPLOYMENT, "{a: b}", "{}"),
}


@pytest.mark.parametrize("what", BRACES)
def test_braces_that_belong_there_are_taken(
    what: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Where Kubernetes takes any text, or a mapping, nothing is guessed."""
    manifest, plain, braces = BRACES[what]
    give(monkeypatch, manifest.replace(plain, braces).encode())
    assert run(["inject", "-f", "-"]) == 0
    shown = capfdbinary.readouterr()
    assert (shown.err, shown.out.count(b"name: meshdns-capture")) == (b"", 1)


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_manifest_is_told(
    what: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Input that holds something else costs exit code 2 and one line with its place; nothing is printed."""
    data, message = BROKEN[what]
    give(monkeypatch, data)
    assert run(["inject", "-f", "-"]) == 2
    shown = capfdbinary.readouterr()
    assert (shown.out, shown.err.count(b"\n")) == (b"", 1)
    assert f"meshdns: cannot read {message}" in shown.err.decode()


def test_an_alias_bomb_is_only_text(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Aliases that would make 10**11 nodes are printed as they are, in the pod's own containers too."""
    bomb = "".join(f"  a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]\n" for at in range(1, 12))
    text = (
        f"apiVersion: v1\nkind: Pod\nmetadata:\n  a0: &a0 [x]\n{bomb}spec:\n  containers:\n"
        "  - {name: meshdns-resolver, command: [meshdns, resolver, run], args: *a11}\n  - {name: app}\n"
    )
    give(monkeypatch, text.encode())
    assert run(["inject", "-f", "-", "--classic"]) == 0
    shown = capfdbinary.readouterr()
    assert shown.err == b""
    assert len(shown.out) < 3 * len(text) + 4096
    assert b"- *a10" in shown.out or b"*a10, *a10" in shown.out
