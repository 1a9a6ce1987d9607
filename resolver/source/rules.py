"""The catalogue of rules that manifests must keep: ids, levels and fixes, and nothing that judges.

An id, once published, never changes its meaning and is never given to another rule. M: files and documents. SE: Istio's
webhook, its custom resource's schema, its analyzers (sources named below). Where a rule is judged: `manifest`, `read`,
`validate` and its topics.
"""

from __future__ import annotations

from typing import Final

from meshdns.resolver.source.problem import Level, Rule

_E: Final = Level.ERROR
_W: Final = Level.WARNING
_YAML: Final = "YAML"

FILE_TOO_BIG: Final = Rule("M001", "file-too-big", _E, "split the file", _YAML)
NOT_UTF8: Final = Rule("M002", "not-utf8", _E, "save the file as UTF-8", _YAML)
SYNTAX: Final = Rule("M003", "syntax", _E, "mend the YAML; the documents after this line are not read", _YAML)
TOO_DEEP: Final = Rule("M004", "too-deep", _E, "remove the nesting; no known object is that deep", _YAML)
ALIAS: Final = Rule("M005", "alias", _E, "write the value out in each place", _YAML)
TAG: Final = Rule("M006", "tag", _E, "remove the tag", _YAML)
DUPLICATE_KEY: Final = Rule("M007", "duplicate-key", _E, "keep one of the two", _YAML)
KEY_NOT_TEXT: Final = Rule("M008", "key-not-text", _E, "quote the key", _YAML)
NOT_A_MAPPING: Final = Rule(
    "M009", "not-a-mapping", _E, "start the document with apiVersion, kind, metadata, spec", _YAML
)
