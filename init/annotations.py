"""A pod's annotations as the downward API mounts them: one `key="value"` a line, the value quoted as Go quotes.

Written by kubelet with `%q` (pkg/fieldpath/fieldpath.go in Kubernetes; strconv.Quote in Go). What an annotation means
must not be put here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshdns.init.errors import ConfigurationError

MAX_ANNOTATIONS_BYTES: Final = 1024 * 1024
"""The API server lets a pod have 256 KiB (TotalAnnotationSizeLimitB), at most four times as long when quoted."""

_LINE: Final = re.compile(r'([^="]+)="((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([abfnrtv\\\"'])|(.|$))", re.DOTALL
)
_SHORT: Final = dict(zip("abfnrtv\\\"'", "\a\b\f\n\r\t\v\\\"'", strict=True))


@dataclass(frozen=True, slots=True)
class Annotation:
    """The value of an annotation and its line in the file, from 1."""

    value: str
    line: int


def read_annotations(path: Path) -> dict[str, Annotation]:
    """Return the annotations in a file of the downward API; ConfigurationError with the line of what is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ANNOTATIONS_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read the annotations: {path}: {error.strerror}") from error
    if len(data) > MAX_ANNOTATIONS_BYTES:
        raise ConfigurationError(f"cannot read the annotations: {path}: more than {MAX_ANNOTATIONS_BYTES >> 20} MiB")
    found: dict[str, Annotation] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            key, value = _parse(line, f"{path}:{number}")
            if key in found:
                raise ConfigurationError(f"cannot read {path}:{number}: {key} stands in line {found[key].line} already")
            found[key] = Annotation(value, number)
    return found


def _parse(line: bytes, where: str) -> tuple[str, str]:
    try:
        matched = _LINE.fullmatch(line.decode())
        if matched:
            return matched[1], _unquote(matched[2])
    except (ValueError, OverflowError):
        pass  # no UTF-8, or an escape that Go never writes: refused as any other line that is no annotation
    raise ConfigurationError(f'cannot read {where}: not an annotation: the downward API writes key="value"')


def _unquote(text: str) -> str:
    """Undo strconv.Quote; ValueError for what it never writes."""
    found = bytearray()
    start = 0
    for escape in _ESCAPE.finditer(text):
        found += text[start : escape.start()].encode()
        found += _meaning(escape)
        start = escape.end()
    return (bytes(found) + text[start:].encode()).decode()


def _meaning(escape: re.Match[str]) -> bytes:
    hexadecimal, octal, short_point, long_point, letter, _ = escape.groups()
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if octal:
        return bytes([int(octal, 8)])
    if short_point or long_point:
        return chr(int(short_point or long_point, 16)).encode()
    if letter:
        return _SHORT[letter].encode()
    raise ValueError(escape[0])
