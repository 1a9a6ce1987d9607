"""The laws hold for every file of the corpus, and a broken one is noticed."""

from __future__ import annotations

import pytest
from fuzz import laws
from fuzz.laws import CORPUS, LAWS


@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds_for_its_corpus(law: str) -> None:
    """Nothing that fuzzing has found breaks a law."""
    files = sorted((CORPUS / law).iterdir())
    assert len(files) > 20
    for file in files:
        try:
            LAWS[law](file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{file.name} breaks the law") from error


def test_a_broken_law_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit below every answer breaks the law of queries."""
    monkeypatch.setattr(laws, "UDP_MAX", 12)
    with pytest.raises(AssertionError):
        laws.any_query((CORPUS / "query" / "plain").read_bytes())
