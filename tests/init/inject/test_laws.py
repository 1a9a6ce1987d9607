"""What holds for every manifest: twice is once, the last options count, and nothing else changes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, reject, settings
from hypothesis import strategies as st

from meshdns.init.errors import ConfigurationError
from meshdns.init.inject.container import Injection
from meshdns.init.inject.rewrite import rewrite
from meshdns.resolver.serve.address import SocketAddress

MANIFESTS = Path(__file__).parent / "manifests"
OURS = {"meshdns-capture", "meshdns-resolver", "meshdns-entries", "meshdns-state", "meshdns-run", "meshdns-annotations"}

LAW = settings(deadline=None, max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""Making a file smaller takes minutes; one that fails is printed as it is."""

NAMES = st.sampled_from(["app", "web", "0", "no", "a b", "ü", "#x", "- y", "'q'", "1e3", "null"])
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=0x1FFFF, exclude_categories=["C", "Z"]), max_size=8)
ODD = st.sampled_from(["two\nlines\n", " # no\n", "\t", ""])
SCALARS: st.SearchStrategy[Any] = st.one_of(NAMES, TEXTS, ODD, st.booleans(), st.none(), st.integers(-9, 9999))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=4,
)
"""What stands beside the fields that inject reads."""
CONTAINERS = st.builds(lambda name, more: {"name": name, "x": more}, NAMES, VALUES)
VOLUMES = st.builds(lambda name, more: {"name": name, "emptyDir": more}, NAMES, VALUES)


def _maybe(field: str, items: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    full = st.fixed_dictionaries({field: st.lists(items, max_size=2)})
    return st.one_of(st.just({}), st.just({field: None}), full)


SPECS = st.builds(
    lambda first, init, last, containers, volumes: {**first, **init, "containers": containers, **volumes, **last},
    st.dictionaries(st.sampled_from(["dnsPolicy", "x"]), VALUES, max_size=2),
    _maybe("initContainers", CONTAINERS),
    st.dictionaries(st.sampled_from(["affinity", "tolerations"]), VALUES, max_size=2),
    st.lists(CONTAINERS, min_size=1, max_size=3),
    _maybe("volumes", VOLUMES),
)
ANNOTATIONS = st.sampled_from(
    [{}, {"a": "b"}, {"traffic.sidecar.istio.io/excludeOutboundPorts": "25"}, {"meshdns.io/inject": "false"}]
)


def _object(kind: str, spec: dict[str, Any], annotations: dict[str, str], more: Any) -> dict[str, Any]:  # noqa: ANN401
    pod = {"metadata": {"annotations": annotations}, "spec": spec}
    head = {"apiVersion": {"Pod": "v1", "CronJob": "batch/v1"}.get(kind, "apps/v1"), "kind": kind}
    if kind == "Pod":
        return {**head, **pod, "more": more}
    if kind == "CronJob":
        return {**head, "spec": {"jobTemplate": {"spec": {"template": pod}}, "more": more}}
    return {**head, "spec": {"template": pod, "replicas": 2}, "more": more}


OBJECTS = st.builds(_object, st.sampled_from(["Pod", "Deployment", "CronJob"]), SPECS, ANNOTATIONS, VALUES)
DOCUMENTS = st.one_of(
    OBJECTS,
    st.builds(lambda data: {"apiVersion": "v1", "kind": "ConfigMap", "data": data}, VALUES),
    st.builds(lambda items: {"apiVersion": "v1", "kind": "List", "items": items}, st.lists(OBJECTS, max_size=3)),
)


def _text(document: dict[str, Any], style: str) -> str:
    if style == "json":
        return json.dumps(document, ensure_ascii=False) + "\n"
    if style == "indented json":
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    flow = {"flow": True, "mixed": None, "block": False}[style]
    return yaml.safe_dump(document, default_flow_style=flow, sort_keys=False, allow_unicode=True)


STYLES = st.sampled_from(["block", "mixed", "flow", "json", "indented json"])
FILES = st.builds(
    lambda texts, ending: "---\n".join(texts).replace("\n", ending).encode(),
    st.lists(st.builds(_text, DOCUMENTS, STYLES), min_size=1, max_size=3),
    st.sampled_from(["\n", "\r\n"]),
)
INJECTIONS = st.builds(
    Injection,
    image=st.sampled_from(["meshdns:1", "registry.example:5000/mesh/meshdns@sha256:0"]),
    configmap=st.sampled_from(["meshdns-entries", "123", "true"]),
    namespace=st.sampled_from([None, "shop", "123"]),
    backend=st.sampled_from(["auto", "nft", "iptables-legacy"]),
    admin=st.sampled_from([SocketAddress(ip_address("0.0.0.0"), 15054), SocketAddress(ip_address("::"), 9)]),
    classic=st.booleans(),
)


PLAIN = Injection("meshdns:1", "names", None, "auto", SocketAddress(ip_address("0.0.0.0"), 15054), classic=False)


def inject(data: bytes, asked: Injection) -> bytes:
    """Return what a file becomes."""
    if asked.classic and b"CronJob" in data:
        reject()  # as inject does
    result = rewrite(data, "file", asked)
    assert result.refused == []
    assert result.changed == (result.data != data)
    return result.data


def meaning(data: bytes) -> list[Any]:
    """Return the objects of a file by another parser."""
    return list(yaml.safe_load_all(data))


def without_ours(node: Any) -> Any:  # noqa: ANN401 - any part of an object
    """Return an object that lacks what has one of our names, and lists of the pod that are empty then."""
    if isinstance(node, dict):
        kept = {key: without_ours(value) for key, value in node.items()}
        return {
            key: value
            for key, value in kept.items()
            if not (key in {"initContainers", "volumes"} and (value is None or value == []))
        }
    if isinstance(node, list):
        return [without_ours(one) for one in node if not (isinstance(one, dict) and one.get("name") in OURS)]
    return node


@LAW
@given(FILES, INJECTIONS)
def test_twice_is_once(data: bytes, asked: Injection) -> None:
    """Injecting what was injected changes no byte."""
    once = inject(data, asked)
    assert inject(once, asked) == once


@LAW
@given(FILES, INJECTIONS, INJECTIONS)
def test_the_last_options_count(data: bytes, before: Injection, after: Injection) -> None:
    """Injecting with other options gives what injecting with them alone would have given."""
    assert meaning(inject(inject(data, before), after)) == meaning(inject(data, after))


@LAW
@given(FILES, INJECTIONS)
def test_nothing_else_changes(data: bytes, asked: Injection) -> None:
    """Without our parts every object says what it said, and every pod that is not left alone has them."""
    after = inject(data, asked)
    assert [without_ours(one) for one in meaning(after)] == [without_ours(one) for one in meaning(data)]
    for spec, said in pods(meaning(after)):
        names = [one["name"] for one in spec.get("initContainers") or []]
        if said.get("meshdns.io/inject") == "false":
            assert not OURS & set(names)
        else:
            front = ["meshdns-capture"] if asked.classic else ["meshdns-capture", "meshdns-resolver"]
            assert names[: len(front)] == front
            assert ("meshdns-resolver" in [one["name"] for one in spec["containers"]]) == asked.classic


def pods(node: Any) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:  # noqa: ANN401 - any part of an object
    """Yield the pods' specs with their annotations."""
    if isinstance(node, dict):
        spec = node.get("spec")
        if isinstance(spec, dict) and "containers" in spec:
            yield spec, node["metadata"]["annotations"]
        else:
            for child in node.values():
                yield from pods(child)
    if isinstance(node, list):
        for child in node:
            yield from pods(child)


BLOCK = [file.name for file in sorted(MANIFESTS.glob("*.yaml")) if file.name != "daemonset.yaml"]
"""Manifests whose pods stand in block style."""


@pytest.mark.parametrize("manifest", BLOCK)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_are_added_and_none_is_touched(manifest: str, ending: str) -> None:
    """In a manifest as people write it every line stays what it is, in its order; and ours end as they do."""
    before = (MANIFESTS / manifest).read_text().replace("\n", ending).encode()
    after = inject(before, PLAIN)
    lines = iter(after.splitlines(keepends=True))
    assert all(line in lines for line in before.splitlines(keepends=True))
    assert after.count(b"\n") == after.count(ending.encode())
    assert len(after) > len(before)


def broken_lines(line_break: str) -> bytes:
    """Return a manifest with a line break that editors do not know, and its pod in the last line."""
    text = (MANIFESTS / "daemonset.yaml").read_text().replace("metadata", f"{line_break}metadata", 1)
    return text.replace("    spec: {", "\n    spec: {").rstrip("\n").encode()


def test_a_carriage_return_alone_moves_nothing() -> None:
    """It ends a line for YAML, but no part of ours gets to another line for it."""
    before = broken_lines("\r")
    after = inject(before, PLAIN)
    assert [without_ours(one) for one in meaning(after)] == [without_ours(one) for one in meaning(before)]
    assert b"meshdns-resolver" in after
    assert inject(after, PLAIN) == after


@pytest.mark.parametrize("line_break", ["\x85", "\u2028", "\u2029"])
def test_what_one_yaml_takes_for_a_line_and_another_does_not(line_break: str) -> None:
    """A line break of YAML 1.1 alone is told; nobody guesses what was meant."""
    with pytest.raises(ConfigurationError, match="cannot parse"):
        rewrite(broken_lines(line_break), "file", PLAIN)


PIPE = "{meshdns} inject -f {file} | {meshdns} inject -f - | diff - <({meshdns} inject -f {file})"


@pytest.mark.parametrize("manifest", ["deployment.yaml", "daemonset.yaml", "list.yaml", "pods.json"])
def test_a_pipe_of_two_is_one(manifest: str) -> None:
    """`meshdns inject` of its own output prints it again, in processes of their own."""
    file = shlex.quote(str(MANIFESTS / manifest))
    line = PIPE.format(meshdns=f"{shlex.quote(sys.executable)} -m meshdns.init.cli", file=file)
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def meshdns(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command line as a user would."""
    command = [sys.executable, "-m", "meshdns.init.cli", "inject", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=30)


def test_check_says_whether_something_would_change(tmp_path: Path) -> None:
    """`--check` prints nothing and exits 10 before, 0 after, and 10 again for other options."""
    done = meshdns("-f", MANIFESTS / "deployment.yaml", "--check")
    assert (done.returncode, done.stdout, done.stderr) == (10, b"", b"")
    injected = tmp_path / "injected.yaml"
    injected.write_bytes(meshdns("-f", MANIFESTS / "deployment.yaml").stdout)
    done = meshdns("-f", injected, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert meshdns("-f", injected, "--check", "--classic").returncode == 10
    assert meshdns("-f", injected, "-f", MANIFESTS / "job.yaml", "--check").returncode == 10


def test_files_are_put_together(tmp_path: Path) -> None:
    """Several files are printed in their order, and a document never runs into the next."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_bytes(b"apiVersion: v1\nkind: Service\nmetadata: {name: a}")
    second.write_bytes(b"---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n")
    done = meshdns("-f", first, "-f", "-", "-f", second, stdin=b"# c\napiVersion: v1\nkind: Service\n")
    between = b"\n---\n# c\napiVersion: v1\nkind: Service\n"
    assert (done.returncode, done.stdout) == (0, first.read_bytes() + between + second.read_bytes())


def test_what_needs_no_comments_loads_no_library() -> None:
    """ruamel.yaml is loaded for flow style and aliases only, not by any other command."""
    code = (
        "import sys; from meshdns.init.cli import run; run(sys.argv[1:]); "
        "print(any(name.startswith('ruamel') for name in sys.modules), file=sys.stderr)"
    )
    for arguments, loaded in {
        ("inject", "-f", str(MANIFESTS / "deployment.yaml")): "False",
        ("inject", "-f", str(MANIFESTS / "daemonset.yaml")): "True",
        ("capture", "plan", "--dns-servers", "10.0.0.1"): "False",
    }.items():
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        assert done.stderr.splitlines()[-1] == loaded, arguments
