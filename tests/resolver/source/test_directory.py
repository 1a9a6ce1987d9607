"""Reading a directory: which files count, and what stays when something in them goes bad."""

# ruff: noqa: E501 - a row is what is written and the line that comes of it

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshdns.resolver.source.directory import Loaded, load
from meshdns.resolver.source.entry import ServiceEntry

BAD = "bad"
BREAK = "\n---\nx: [\n"


def entry(name: str, host: str = "", spec: str = "") -> str:
    return (
        f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n"
        f"spec: {{hosts: [{host or name + '.x'}], resolution: DNS{spec}}}\n"
    )


def bad(name: str) -> str:
    return entry(name, "under_score")


def joined(*documents: str) -> str:
    return "---\n".join(documents)


def hosts(loaded: Loaded) -> list[str]:
    return [host for one in loaded.entries if isinstance(one, ServiceEntry) for host in one.hosts]


def lines(loaded: Loaded, root: Path) -> list[str]:
    return [str(problem).replace(f"{root}/", "") for problem in loaded.problems]


def write(directory: Path, files: dict[str, str]) -> None:
    """Make the directory hold exactly `files`."""
    for old in directory.iterdir():
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        (directory / name).write_text(text)


@dataclass(frozen=True)
class Case:
    """Contents of the directory one after the other, and the hosts that are served after the last one."""

    name: str
    steps: list[dict[str, str]]
    hosts: list[str]
    lines: list[str] = field(default_factory=list)


A, B, C = entry("a"), entry("b"), entry("c")
UNDERSCORE = "spec.hosts[0]: 'under_score' is not a domain name: label 'under_score'"
OPEN_LIST = "cannot parse: while parsing a flow sequence did not find expected ',' or ']'"
OPEN = "cannot parse: while parsing a flow node did not find expected node content"

CASES = [
    Case("files by name", [{"2.yaml": B, "1.yml": A, "3.json": C}], ["a.x", "b.x", "c.x"]),
    Case("other files do not count", [{"a.yaml": A, "b.yaml~": B, ".c.yaml": C, "d.txt": B}], ["a.x"]),
    Case("a bad document is left out", [{"a.yaml": joined(A, bad("b"), C)}], ["a.x", "c.x"], [f"a.yaml:9: {UNDERSCORE}"]),
    Case(
        "a document that goes bad keeps its last good version",
        [{"a.yaml": joined(A, B, C)}, {"a.yaml": joined(A, bad("b"), entry("c", "new.x"))}],
        ["a.x", "b.x", "new.x"],
        [f"a.yaml:9: {UNDERSCORE}"],
    ),
    Case(
        "through any number of bad versions",
        [{"a.yaml": B}, {"a.yaml": bad("b")}, {"a.yaml": bad("b") + "# still\n"}],
        ["b.x"],
        [f"a.yaml:4: {UNDERSCORE}"],
    ),
    Case("until it is good", [{"a.yaml": B}, {"a.yaml": bad("b")}, {"a.yaml": entry("b", "new.x")}], ["new.x"]),
    Case("until it is removed", [{"a.yaml": joined(A, B)}, {"a.yaml": joined(A, bad("b"))}, {"a.yaml": A}], ["a.x"]),
    Case("until its file is gone", [{"a.yaml": A, "b.yaml": B}, {"a.yaml": A, "b.yaml": bad("b")}, {"a.yaml": A}], ["a.x"]),
    Case(
        "also where it was moved to another file",
        [{"a.yaml": joined(A, B)}, {"a.yaml": A, "b.yaml": bad("b")}],
        ["a.x", "b.x"],
        [f"b.yaml:4: {UNDERSCORE}"],
    ),
    Case("a document that was removed is gone", [{"a.yaml": joined(A, B, C)}, {"a.yaml": joined(A, C)}], ["a.x", "c.x"]),
    Case(
        "a file that stops parsing keeps its documents from there on",
        [{"a.yaml": joined(A, B, C)}, {"a.yaml": entry("a", "new.x") + BREAK}],
        ["new.x", "b.x", "c.x"],
        [f"a.yaml:7: {OPEN}"],
    ),
    Case(
        "but not one that was removed before that",
        [{"a.yaml": joined(A, B, C)}, {"a.yaml": B + BREAK}],
        ["b.x", "c.x"],
        [f"a.yaml:7: {OPEN}"],
    ),
    Case(
        "from the first on, if nothing parses",
        [{"a.yaml": joined(A, B)}, {"a.yaml": "[" + joined(A, B)}],
        ["a.x", "b.x"],
        [f"a.yaml:2: {OPEN_LIST}"],
    ),
    Case(
        "and a document moved from the broken part is not served twice",
        [{"a.yaml": joined(A, B)}, {"a.yaml": A + BREAK, "b.yaml": entry("b", "moved.x")}],
        ["a.x", "moved.x"],
        [f"a.yaml:7: {OPEN}"],
    ),
    Case("an unchanged file beside a changed one", [{"a.yaml": A, "b.yaml": B}, {"a.yaml": C, "b.yaml": B}], ["c.x", "b.x"]),
    Case(
        "of one object in two files the first counts",
        [{"a.yaml": A, "b.yaml": joined(B, entry("a", "other.x"))}],
        ["a.x", "b.x"],
        ["b.yaml:6: metadata.name: ServiceEntry default/a already stands at a.yaml:1"],
    ),
    Case(
        "also when it goes bad: its last good version does",
        [{"a.yaml": A, "b.yaml": entry("a", "other.x")}, {"a.yaml": bad("a"), "b.yaml": entry("a", "other.x")}],
        ["a.x"],
        [
            f"a.yaml:4: {UNDERSCORE}",
            "b.yaml:1: metadata.name: ServiceEntry default/a already stands at a.yaml:1",
        ],
    ),
    Case(
        "a document of no name keeps nothing",
        [{"a.yaml": A}, {"a.yaml": A.replace("{name: a}", "{}")}],
        [],
        ["a.yaml:3: metadata.name: an object must have a name"],
    ),
    Case(
        "a document that is bad as YAML is known all the same",
        [{"a.yaml": A}, {"a.yaml": A + "spec: {}\n"}],
        ["a.x"],
        ["a.yaml:5: key 'spec' is given twice"],
    ),
    Case(
        "entries against each other",
        [{"a.yaml": entry("a", "h.x", ", ports: [{number: 80, name: p, protocol: HTTP}]"),
          "b.yaml": entry("b", "h.x", ", ports: [{number: 80, name: p, protocol: TLS}]")}],
        ["h.x", "h.x"],
        ["b.yaml:1: spec.ports[0].protocol: TLS for h.x, but HTTP at a.yaml:1"],
    ),
    Case("nothing at all", [{}], []),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_stands(case: Case, tmp_path: Path) -> None:
    """After each of these histories exactly these hosts are served, and these lines told."""
    loaded = None
    for files in case.steps:
        write(tmp_path, files)
        loaded = load([str(tmp_path)], "default", loaded)
        loaded = pickle.loads(pickle.dumps(loaded))  # noqa: S301 - it travels between processes
    assert loaded is not None
    assert hosts(loaded) == case.hosts
    assert lines(loaded, tmp_path) == case.lines


def config_map(mount: Path, version: str, files: dict[str, str]) -> None:
    """Write a version of a ConfigMap the way kubelet does."""
    data = mount / f"..{version}"
    data.mkdir()
    for name, text in files.items():
        (data / name).write_text(text)
        if not (mount / name).is_symlink():
            (mount / name).symlink_to(Path("..data") / name)
    (mount / "..data_tmp").symlink_to(data.name)
    (mount / "..data_tmp").rename(mount / "..data")


def test_a_config_map_mount(tmp_path: Path) -> None:
    """Visible names count, each file once, and a new version is read through the renamed link."""
    config_map(tmp_path, "1", {"a.yaml": A, "b.yaml": B})
    first = load([str(tmp_path)], "default")
    assert hosts(first) == ["a.x", "b.x"]
    config_map(tmp_path, "2", {"a.yaml": entry("a", "new.x"), "b.yaml": B})
    second = load([str(tmp_path)], "default", first)
    assert hosts(second) == ["new.x", "b.x"]
    assert second.files[1].objects[0].entry is first.files[1].objects[0].entry, "an unchanged file is not parsed again"


def test_each_file_once(tmp_path: Path) -> None:
    """A file that is found by several ways is read the first time only."""
    (tmp_path / "a.yaml").write_text(A)
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    loaded = load([str(tmp_path), str(tmp_path / "a.yaml")], "default")
    assert hosts(loaded) == ["a.x"]
    assert loaded.problems == ()


def test_a_directory_that_vanishes(tmp_path: Path) -> None:
    """A directory that is gone is told and keeps what it had; the others are read on; back again, it is as it is."""
    gone, other = tmp_path / "gone", tmp_path / "other"
    gone.mkdir()
    other.mkdir()
    (gone / "a.yaml").write_text(A)
    (other / "b.yaml").write_text(B)
    paths = [str(gone), str(other)]
    first = load(paths, "default")
    gone.rename(tmp_path / "away")
    (other / "b.yaml").write_text(C)
    second = load(paths, "default", first)
    assert hosts(second) == ["a.x", "c.x"]
    assert lines(second, tmp_path) == ["gone: does not exist; what was read from it before is kept"]
    assert second.missing == (str(gone),)
    gone.mkdir()
    assert hosts(load(paths, "default", second)) == ["c.x"]


def test_a_path_that_never_was(tmp_path: Path) -> None:
    """A path that does not exist is told; a file in its place is read as one, whatever its name."""
    loaded = load([str(tmp_path / "none"), str(tmp_path / "file")], "default")
    assert loaded.missing == (str(tmp_path / "none"), str(tmp_path / "file"))
    (tmp_path / "file").write_text(A)
    assert hosts(load([str(tmp_path / "file")], "default")) == ["a.x"]


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe or a directory with a manifest's name is told and not waited for; a link to nowhere is as if not there."""
    os.mkfifo(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").mkdir()
    (tmp_path / "c.yaml").symlink_to("nowhere")
    (tmp_path / "d.yaml").write_text(A)
    loaded = load([str(tmp_path)], "default")
    assert hosts(loaded) == ["a.x"]
    assert lines(loaded, tmp_path) == ["a.yaml: cannot read: not a regular file", "b.yaml: cannot read: Is a directory"]


@pytest.mark.root
def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read any more keeps what it had."""
    monkeypatch.chdir(tmp_path)
    path = Path("a.yaml")
    path.write_text(A)
    first = load([str(path)], "default")
    path.chmod(0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            second = load([str(path)], "default", first)
            os.write(writer, "\n".join([*hosts(second), *lines(second, tmp_path)]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, encoding="utf-8") as told:  # noqa: PTH123 - a descriptor
        assert told.read().splitlines() == [
            "a.x",
            "a.yaml: cannot read: Permission denied; what was read from it before is kept",
        ]


def test_another_namespace_starts_anew(tmp_path: Path) -> None:
    """Objects that name no namespace belong to another one now, so nothing is taken over."""
    (tmp_path / "a.yaml").write_text(A)
    first = load([str(tmp_path)], "default")
    second = load([str(tmp_path)], "other", first)
    assert [one.meta.namespace for one in second.entries] == ["other"]


def test_ignored_objects_are_counted(tmp_path: Path) -> None:
    """Objects of kinds that are not read are counted and nothing else."""
    (tmp_path / "a.yaml").write_text(joined(A, "{apiVersion: v1, kind: Pod}\n", "{apiVersion: v1, kind: Secret}\n"))
    loaded = load([str(tmp_path)], "default")
    assert (loaded.ignored, loaded.problems) == (2, ())


def test_problems_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    """The problems of everything in the paths, files in order."""
    (tmp_path / "b.yaml").write_text(bad("b"))
    (tmp_path / "a.yaml").write_text(bad("a"))
    found = load([str(tmp_path)], "default").problems
    assert [Path(problem.file).name for problem in found] == ["a.yaml", "b.yaml"]
