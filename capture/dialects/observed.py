"""What a kernel holds of ours, as a dialect read it: rules it understands as `Rule`, everything else as text.

Values only. Whether they are what they should be is `apply/compare.py`'s question.
"""

from __future__ import annotations

from meshdns.capture.policy.ruleset import Hook, Rule, Stage
from meshdns.capture.policy.spec import Family
from meshdns.capture.values import dataclass


@dataclass(frozen=True, slots=True)
class ObservedRule:
    """One rule in the kernel. `rule` is None where nobody of ours could have written it; its `why` is always empty.

    `text` says what stands there instead; a dialect may leave it empty where there is a `rule`.
    """

    rule: Rule | None
    text: str
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class ObservedChain:
    """One chain of a name of ours; `place` is its hook and stage, None where the dialect would never put a chain."""

    name: str
    place: tuple[Hook, Stage] | None
    rules: tuple[ObservedRule, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything under our name in one namespace.

    `about` holds the comments that record the installation (see `apply/record.py`), in order; `alive` the families
    whose heartbeat is fresh; `strangers` says in words what else somebody put there.
    """

    present: bool
    chains: tuple[ObservedChain, ...] = ()
    about: tuple[str, ...] = ()
    alive: frozenset[Family] = frozenset()
    strangers: tuple[str, ...] = ()


NOTHING = Observed(present=False)
