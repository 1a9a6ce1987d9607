"""The bench is scripts at the top of the tree, beside the packages: nothing but these tests imports them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
