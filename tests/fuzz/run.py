#!/usr/bin/env python3
"""Look for bytes that break a law, guided by what they make the code reach.

    PYTHONPATH=tests tests/fuzz/run.py LAW [LIBFUZZER OPTION...]

`make fuzz` gives each law a bounded time. What reaches new code goes to .fuzz/LAW, and `-merge=1` takes the least of
that into the corpus, which the tests go through in full. Bytes that break a law are written to a file whose name is
printed: they go into the corpus together with the repair.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["meshdns.resolver"]):
    from fuzz.laws import CORPUS, LAWS

FOUND = Path(__file__).parents[2] / ".fuzz"


def main() -> None:
    """Run libFuzzer on one law; it reads both folders and writes to the first."""
    if "FUZZ_LAW" not in os.environ:  # libFuzzer starts this file again when it merges, with options of its own
        os.environ["FUZZ_LAW"] = sys.argv.pop(1)
    law = os.environ["FUZZ_LAW"]
    folders = [FOUND / law, CORPUS / law]
    folders[0].mkdir(parents=True, exist_ok=True)
    if "-merge=1" in sys.argv:
        folders.reverse()
    atheris.Setup([__file__, *sys.argv[1:], *map(str, folders)], LAWS[law])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
