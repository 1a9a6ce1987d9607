"""The namespace that a relay's test runs in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from namespaces import Namespace, namespace


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with namespace() as made:
        yield made
