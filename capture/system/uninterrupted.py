"""Door: signals. What would end the process waits while the kernel is being changed, so that no change stays half made.

^C in a terminal goes to the programs that we run as well, and they are as far from done. They inherit what waits, so
they end their work; each is given up after its time (`runner.py`). SIGKILL waits for nobody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from signal import SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask
else:
    # What `signal` is made of: the module itself costs every installation 0.6 ms.
    from _signal import SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask

HELD: Final = frozenset({SIGINT, SIGTERM, SIGHUP})


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP for the length of a block; what came meanwhile acts at its end.

    KeyboardInterrupt then, for SIGINT, unless the block itself has failed: why it did is worth more.
    """
    before = pthread_sigmask(SIG_BLOCK, HELD)
    try:
        yield
    except BaseException:  # whatever it is goes on
        with contextlib.suppress(KeyboardInterrupt):
            pthread_sigmask(SIG_SETMASK, before)
        raise
    pthread_sigmask(SIG_SETMASK, before)
