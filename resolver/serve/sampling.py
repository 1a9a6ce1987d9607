"""How long answers from the table take, with no clock on their way: a few times a second one turn of the loop is timed.

A turn answers one packet or a batch of them; each of its answers took as long as the whole, for a batch is sent at its
end. What a packet waited for before its turn is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from meshdns.resolver.query.decision import Tally
from meshdns.resolver.serve.loop import AnsweringLoop

EVERY_S: Final = 0.1

Told = Callable[[float, int], None]
"""(seconds, answers): so many answers from the table took so long, in one turn."""


class SampledLoop(AnsweringLoop):
    """An answering loop that times a turn now and then."""

    def time_turns(self, descriptor: int, tally: Tally, told: Told) -> None:
        """Tell of the descriptor's next turn, and of one each EVERY_S from then on, as long as it has any.

        Its answers are what it adds to `tally`; a turn that adds none is not told.
        """
        turns = self._answering.turns
        turn = turns.get(descriptor)
        if turn is None:
            return

        def timed() -> None:
            turns[descriptor] = turn
            before, begun_s = sum(tally.values()), perf_counter()
            try:
                turn()
            finally:
                took_s = perf_counter() - begun_s
                self.call_later(EVERY_S, self.time_turns, descriptor, tally, told)
            answered = sum(tally.values()) - before
            if answered:
                told(took_s, answered)

        turns[descriptor] = timed
