"""What README and docs/ show: their files, and the commands of meshdns in their code blocks."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).parent.parent
DOCUMENTS: Final = (TREE / "README.md", *sorted((TREE / "docs").glob("*.md")))


def commands() -> list[str]:
    """Return every line of a code block that calls meshdns, continuations joined, comments and pipes left out."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", " ")
        lines = re.findall(
            r"^ {4}(?:.*? )?(meshdns (?:capture|resolver|demo|inject|vm|completion) .*)$", text, re.MULTILINE
        )
        found += [" ".join(shlex.split(line.partition(" | ")[0], comments=True)).removesuffix(" &") for line in lines]
    return list(dict.fromkeys(found))
