"""What an installation says of itself is read as it was written; what else stands there is no record, and no error."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from capture_strategies import SPECS
from capturing import SPEC
from hypothesis import given
from hypothesis import strategies as st

from meshdns.capture.apply.backend import BACKENDS
from meshdns.capture.apply.install import new_record
from meshdns.capture.apply.record import from_comments, recorded_version, to_comments
from meshdns.capture.policy.settings import to_settings
from meshdns.capture.policy.spec import CaptureSpec, Family

NFT = BACKENDS["nft"]()
GOOD = {"version": "1", "installed_at": 1, "backend": "nft", "fingerprint": "0" * 8, "spec": to_settings(SPEC)}
BAD: dict[str, Any] = {
    "another option": {**GOOD, "spec": {**to_settings(SPEC), "more": True}},
    "one option less": {**GOOD, "spec": {name: value for name, value in to_settings(SPEC).items() if name != "dns"}},
    "no time": {name: value for name, value in GOOD.items() if name != "installed_at"},
    "a time without end": {**GOOD, "installed_at": float("inf")},
    "a number beyond all numbers": {**GOOD, "spec": {**to_settings(SPEC), "heartbeat_timeout_s": 10**400}},
    "a family that there is not": {**GOOD, "open_before": ["ipv5"]},
    "no list of families": {**GOOD, "open_before": 4},
    "no mapping": [1],
    "nothing": None,
}


def _comments(document: object) -> tuple[str, ...]:
    text = base64.b64encode(json.dumps(document).encode()).decode()
    return tuple(text[start : start + NFT.comment_length] for start in range(0, len(text), NFT.comment_length))


@given(SPECS, st.integers(1, 128), st.frozensets(st.sampled_from(Family)))
def test_read_after_write_is_the_same(spec: CaptureSpec, length: int, open_before: frozenset[Family]) -> None:
    """In pieces of any length, and the version by itself."""
    record = replace(new_record(spec, NFT, "1.2.3", 1_700_000_000), open_before=open_before)
    comments = to_comments(record, length)
    assert max(map(len, comments)) <= length
    assert (from_comments(comments), recorded_version(comments)) == (record, "1.2.3")


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_no_record(case: str) -> None:
    """The version is told where there is one, so that another version's record is not taken for none."""
    comments = _comments(BAD[case])
    assert from_comments(comments) is None
    assert recorded_version(comments) == ("1" if isinstance(BAD[case], dict) else None)


def test_the_cases_differ_from_a_record() -> None:
    """The document that they vary is one."""
    assert from_comments(_comments(GOOD)) is not None


@given(st.lists(st.text(max_size=40) | st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode())))
def test_any_comments_are_read_or_refused(comments: list[str]) -> None:
    """Comments of anybody's are no record and no error."""
    assert (from_comments(comments), recorded_version(comments)) == (None, None)
