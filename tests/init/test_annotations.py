"""The downward API's file of annotations is read as kubelet wrote it, and nothing else is."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshdns.init.annotations import Annotation, read_annotations
from meshdns.init.errors import ConfigurationError

READ = {
    "nothing": (b"", {}),
    "one": (b'a="b"', {"a": "b"}),
    "an end of line": (b'a="b"\n', {"a": "b"}),
    "two": (b'a="b"\nc/d.e="f"', {"a": "b", "c/d.e": "f"}),
    "an empty value": (b'a=""', {"a": ""}),
    "an equals sign": (b'a="b=c"', {"a": "b=c"}),
    "quotes": (rb'a="say \"b\""', {"a": 'say "b"'}),
    "lines": (rb'a="b:\n  c: 1\n"', {"a": "b:\n  c: 1\n"}),
    "a tab and a backslash": (rb'a="\t\\n"', {"a": "\t\\n"}),
    "letters as they are": ('a="bär"'.encode(), {"a": "bär"}),
    "a code point": (rb'a="\u2028"', {"a": "\u2028"}),
    "a long code point": (rb'a="\U0001f600"', {"a": "\U0001f600"}),
    "bytes": (rb'a="\xc3\xa4"', {"a": "ä"}),
    "octal": (rb'a="\101"', {"a": "A"}),
    "bell": (rb'a="\a\b\f\r\v"', {"a": "\a\b\f\r\v"}),
}


@pytest.mark.parametrize("name", READ)
def test_what_kubelet_writes_is_read(name: str, tmp_path: Path) -> None:
    """Keys, values and escapes come out as they were in the Pod."""
    data, expected = READ[name]
    file = tmp_path / "annotations"
    file.write_bytes(data)
    assert {key: found.value for key, found in read_annotations(file).items()} == expected


def test_lines_are_counted(tmp_path: Path) -> None:
    """Each annotation knows its line, empty ones counted."""
    file = tmp_path / "annotations"
    file.write_text('a="1"\n\nb="2"\n')
    assert read_annotations(file) == {"a": Annotation("1", 1), "b": Annotation("2", 3)}


REFUSED = {
    "no value": b"a",
    "no quotes": b"a=b",
    "no key": b'="b"',
    "one quote": b'a="b',
    "more behind": b'a="b"c',
    "a quote within": b'a="b"c"',
    "an unknown escape": rb'a="\q"',
    "half an escape": rb'a="\x4"',
    "a backslash at the end": b'a="\\"',
    "a surrogate": rb'a="\ud800"',
    "beyond Unicode": rb'a="\U00110000"',
    "bytes that are no text": rb'a="\xff"',
    "raw bytes": b'a="\xff"',
    "YAML": b"a: b",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_kubelet_never_writes_is_refused(name: str, tmp_path: Path) -> None:
    """Anything else is an error that names file and line."""
    file = tmp_path / "annotations"
    file.write_bytes(b'fine="1"\n' + REFUSED[name])
    with pytest.raises(ConfigurationError) as refused:
        read_annotations(file)
    assert str(refused.value) == f'cannot read {file}:2: not an annotation: the downward API writes key="value"'


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    """One annotation has one value."""
    file = tmp_path / "annotations"
    file.write_text('a="1"\na="2"\n')
    with pytest.raises(ConfigurationError, match=r":2: a stands in line 1 already"):
        read_annotations(file)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(ConfigurationError, match="nothing: No such file"):
        read_annotations(tmp_path / "nothing")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=40) | st.text(alphabet='a="\\nxu0\n', max_size=20).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """No content of the file is more than an error of ours."""
    file = tmp_path / "annotations"
    file.write_bytes(data)
    with contextlib.suppress(ConfigurationError):
        read_annotations(file)
