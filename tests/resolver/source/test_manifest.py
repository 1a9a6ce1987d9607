"""Text to mappings that know their lines: what scalars stay, what is refused, and that nothing can crash it."""

# ruff: noqa: E501 - a row is what is written and the line that comes of it

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshdns.resolver.source.listing import MAX_FILE_BYTES
from meshdns.resolver.source.manifest import Break, Document, ManifestError, documents, read_settings
from meshdns.resolver.source.tree import Fields, Items, Quoted


def roots(text: str | bytes) -> list[Fields]:
    data = text.encode() if isinstance(text, str) else text
    return [found.root for found in documents(data, "a.yaml") if isinstance(found, Document) and not found.problems]


def complaints(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    lines = []
    for found in documents(data, "a.yaml"):
        lines += [str(found.problem)] if isinstance(found, Break) else [str(problem) for problem in found.problems]
    return lines


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", "no"),
        ("a: 010", "010"),
        ("a: 1:20", "1:20"),
        ("a: 1e3", "1e3"),
        ("a: 2001-01-01", "2001-01-01"),
        ("a: 'null'", "null"),
        ("a: ''", ""),
        ("a: !!str null", "null"),
        ("a: null", None),
        ("a: ~", None),
        ("a:", None),
        ("a: |\n  x\n  y\n", "x\ny\n"),
        ("a: [no, 010, on]", ["no", "010", "on"]),
        ('{"a": "\\u0041\\/", "b": [1, true, null]}', "A/"),
        ("a: {b: {c: d}}", {"b": {"c": "d"}}),
    ],
)
def test_scalars_stay_what_was_written(text: str, value: object) -> None:
    """A scalar is its text, whatever YAML 1.1 would make of it; only a plain null is None."""
    assert roots(text)[0]["a"] == value


def test_quoted_is_remembered() -> None:
    """A quoted number is text for the field that wants a number."""
    root = roots("a: '80'\nb: 80\nc: !!str 80\nd: \"x\"\ne: >\n  f\n")[0]
    assert [key for key, value in root.items() if isinstance(value, Quoted)] == ["a", "c", "d", "e"]


def test_every_key_and_item_knows_its_line() -> None:
    """Lines count from 1 over the whole file; a path that does not exist gives the nearest line above."""
    first, second = roots("a:\n  b: 1\n  c:\n  - x\n\n  - y: [1,\n     2]\n---\nd: 1\n")
    assert isinstance(first["a"], Fields)
    assert isinstance(first["a"]["c"], Items)
    paths = [(), ("a", "b"), ("a", "c"), ("a", "c", 1), ("a", "c", 1, "y", 1), ("a", "c", 9), ("a", "z"), ("q",)]
    assert [first.line_of(path) for path in paths] == [1, 2, 3, 6, 7, 3, 1, 1]
    assert second.line_of(("d",)) == 9


CASES = [
    ("alias", "a: &x 1\nb: *x\n", ["a.yaml:1: anchor &x is not allowed", "a.yaml:2: alias *x is not allowed"]),
    ("anchor of a list", "a: &x [1]\n", ["a.yaml:1: anchor &x is not allowed"]),
    ("merge key", "a: {<<: *x}\n", ["a.yaml:1: alias *x is not allowed"]),
    (
        "tag of Python",
        "a: !!python/name:os.system x",
        ["a.yaml:1: tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"],
    ),
    ("tag of a mapping", "a: !x {}", ["a.yaml:1: tag '!x' is not allowed"]),
    ("duplicate key", "a: 1\nb: 2\na: 3\n", ["a.yaml:3: key 'a' is given twice"]),
    ("key that is a list", "? [1]\n: 2\n", ["a.yaml:1: a key must be a string"]),
    ("key that is null", "~: 2\n", ["a.yaml:1: a key must be a string"]),
    ("list as document", "\n- a\n", ["a.yaml:2: a document must be a mapping"]),
    ("text as document", "hello\n", ["a.yaml:1: a document must be a mapping"]),
    ("not UTF-8", b"a: 1\nb: \xff\n", ["a.yaml:2: cannot read byte 0xff: not UTF-8"]),
    ("UTF-16", "a: 1".encode("utf-16"), ["a.yaml:1: cannot read byte 0xff: not UTF-8"]),
    ("control character", "a: 1\nb: \x01\n", ["a.yaml:2: cannot parse: control characters are not allowed"]),
    ("NUL", b"a: 1\nb: \0\n", ["a.yaml:2: cannot parse: control characters are not allowed"]),
    (
        "list left open",
        "a: 1\n---\nb: [1\n---\nc: 1\n",
        ["a.yaml:4: cannot parse: while parsing a flow sequence did not find expected ',' or ']'"],
    ),
    (
        "tab",
        "a:\n\tb: 1\n",
        ["a.yaml:2: cannot parse: while scanning for the next token found character that cannot start any token"],
    ),
    ("two colons", "a: b: c\n", ["a.yaml:1: cannot parse: mapping values are not allowed in this context"]),
    ("65 levels", "[" * 65 + "]" * 65, ["a.yaml:1: more than 64 levels of nesting"]),
    (
        "end of the file amid a list",
        "a: [1\n",
        ["a.yaml:1: cannot parse: while parsing a flow sequence did not find expected ',' or ']'"],
    ),
    (
        "end of the file amid a text",
        "a: 'x\n\n\n",
        ["a.yaml:3: cannot parse: while scanning a quoted scalar found unexpected end of stream"],
    ),
    ("nothing", "", []),
    ("empty documents", "---\n---\n# remark\n...\n", []),
    ("byte order mark", "\ufeffa: 1\n", []),
    ("Windows line ends", "a: 1\r\nb: 2\r\n", []),
]


@pytest.mark.parametrize(("text", "lines"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_refused(text: str | bytes, lines: list[str]) -> None:
    """What YAML allows and manifests must not, and what is no YAML, is told with file and line."""
    assert complaints(text) == lines


def test_documents_before_a_break_stand() -> None:
    """A syntax error takes away nothing that came before it; a fault within a document only that document."""
    assert roots("a: 1\n---\nb: 2\n---\nc: [\n") == [{"a": "1"}, {"b": "2"}]
    assert roots("a: 1\n---\nb: &x 2\n---\nc: 3\n") == [{"a": "1"}, {"c": "3"}]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_bottomless_nesting(opening: str) -> None:
    """50,000 levels are a problem with a line, not a crash; a parser that is quadratic in the levels would run into the time limit."""
    (problem,) = complaints(opening * 50_000)
    assert problem.startswith("a.yaml:1: ")


def test_a_file_that_is_too_big() -> None:
    """More than 64 MiB are not looked at."""
    assert complaints(b" " * (MAX_FILE_BYTES + 1)) == ["a.yaml: cannot read more than 64 MiB"]


@given(st.text(alphabet=st.sampled_from("ab:-[]{},&*!?|>'\"#%@ \n\t~0"), max_size=80))
@example("%YAML 9.9\n---\na: 1")
@example("--- !<x> a\n")
@example("%TAG ! !\n%TAG ! !\n--- a")
def test_any_text_gives_values_or_problems(text: str) -> None:
    """Whatever the text: mappings whose lines are as many as their keys, or problems; never an exception."""
    for found in documents(text.encode(), "a.yaml"):
        if isinstance(found, Document):
            _assert_sound(found.root)
        else:
            assert str(found.problem).startswith("a.yaml:")


def _assert_sound(value: object) -> None:
    if isinstance(value, Fields | Items):
        assert len(value.lines) == len(value)
        for inner in value.values() if isinstance(value, Fields) else value:
            _assert_sound(inner)
    else:
        assert value is None or isinstance(value, str)


@given(st.binary(max_size=60))
def test_any_bytes_give_values_or_problems(data: bytes) -> None:
    """Whatever the bytes: never an exception."""
    list(documents(data, "a.yaml"))


def test_settings(tmp_path: Path) -> None:
    """A settings file gives texts and lists of texts, and the line of each key."""
    path = tmp_path / "meshdns.yaml"
    path.write_text("# ours\ndns-port: 15053\n\nlisten:\n- 127.0.0.1:53\n- '[::1]:53'\nrelay: no\n")
    settings = read_settings(path)
    assert settings == {"dns-port": "15053", "listen": ["127.0.0.1:53", "[::1]:53"], "relay": "no"}
    assert settings.lines == {"dns-port": 2, "listen": 4, "relay": 7}
    assert type(settings["dns-port"]) is str
    path.write_text("# nothing yet\n")
    assert read_settings(path) == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a: 1\nb: {c: 1}\n", ":2: b: must be a value or a list, not a mapping"),
        ("a: 1\nb: [[1]]\n", ":2: b: every item must be a plain value"),
        ("a: 1\nb:\n", ":2: b: has no value: leave the key out to get the default"),
        ("a: []\n", ":1: a: the list is empty: leave the key out to get the default"),
        ("a: 1\na: 2\n", ":2: key 'a' is given twice"),
        ("a: 1\n---\nb: 1\n", ":3: only one document is allowed"),
        ("a: [1\n", ":1: cannot parse: while parsing a flow sequence did not find expected ',' or ']'"),
        ("- a\n", ":1: a document must be a mapping"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, content: str, reason: str) -> None:
    """Anything but one mapping of names to values is refused with file, line and reason."""
    path = tmp_path / "meshdns.yaml"
    path.write_text(content)
    with pytest.raises(ManifestError) as caught:
        read_settings(path)
    assert str(caught.value) == f"{path}{reason}"


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    """A directory in place of a settings file is refused like any other error."""
    with pytest.raises(ManifestError, match="cannot read: Is a directory"):
        read_settings(tmp_path)
