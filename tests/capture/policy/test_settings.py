"""A configuration survives being written down."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from capture_strategies import SPECS
from capturing import SPEC, servers, spec
from hypothesis import given
from hypothesis import strategies as st

from meshdns.capture.errors import SpecError
from meshdns.capture.policy.settings import from_settings, to_settings, to_shown_settings
from meshdns.capture.policy.spec import CaptureSpec

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(SPECS)
def test_read_after_write_is_the_same(spec: CaptureSpec) -> None:
    """What from_settings reads of what to_settings wrote, through JSON, is the spec."""
    assert from_settings(json.loads(json.dumps(to_settings(spec)))) == spec


NAMED = {"none": servers(), "some": servers("10.9.9.9", "fe80::1%eth0"), "not recorded": None}


@pytest.mark.parametrize("name", NAMED)
def test_where_servers_came_from_is_kept_but_no_option(name: str) -> None:
    """It is written down where it is known, read as unknown where it is not there, and not among what is shown."""
    recorded = spec(resolv_conf="/etc/resolv.conf", named_servers=NAMED[name])
    settings = json.loads(json.dumps(to_settings(recorded)))
    assert ("named_servers" in settings, from_settings(settings)) == (NAMED[name] is not None, recorded)
    assert to_shown_settings(recorded) == to_settings(spec(resolv_conf="/etc/resolv.conf"))


@given(st.sampled_from(sorted(to_settings(spec(named_servers=())))), JSON)
def test_any_other_value_is_read_or_refused(name: str, value: Any) -> None:  # noqa: ANN401 - any value is the point
    """A field of another hand's gives a spec, a SpecError or a ValueError, and nothing else."""
    with contextlib.suppress(SpecError, ValueError):
        from_settings({**to_settings(SPEC), name: value})


@pytest.mark.parametrize("settings", [{}, {**to_settings(SPEC), "more": 1}, [], None, "text"])
def test_another_versions_settings_are_refused(settings: Any) -> None:  # noqa: ANN401
    """A missing field, an unknown one, or no mapping at all is refused."""
    with pytest.raises(SpecError):
        from_settings(settings)
