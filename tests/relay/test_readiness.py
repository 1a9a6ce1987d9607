"""How much the relay does before the loop looks at its other sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass

from meshdns.relay.readiness import TURN_S, Readiness


@dataclass(eq=False)
class Busy:
    """Has work for ever: a step takes a whole turn, and makes its own socket readable again."""

    readiness: Readiness
    near: socket.socket
    far: socket.socket
    steps: int = 0
    events: int = 0

    def step(self) -> bool:
        self.steps += 1
        self.near.send(b"x")
        time.sleep(TURN_S)
        return True

    def ready(self, fd: int, events: int) -> None:  # noqa: ARG002 - there is one socket, and any event will do
        self.events += 1
        with contextlib.suppress(BlockingIOError):
            self.far.recv(100)
        self.readiness.queue(self)


def test_one_turn_of_the_relay_per_turn_of_the_loop() -> None:
    """However much work and however many events there are, the loop's other callbacks wait for one turn at most."""

    async def run() -> None:
        near, far = socket.socketpair()
        far.setblocking(False)
        readiness = Readiness(asyncio.get_running_loop())
        workers = [Busy(readiness, near, far) for _ in range(10)]
        readiness.watch(far.fileno(), workers[0])
        for worker in workers:
            readiness.queue(worker)
        await asyncio.sleep(0)
        before = sum(worker.steps for worker in workers)
        for _ in range(50):
            await asyncio.sleep(0)
        steps = sum(worker.steps for worker in workers) - before
        assert 40 <= steps <= 51
        assert workers[0].events > 0
        assert max(worker.steps for worker in workers) - min(worker.steps for worker in workers) <= 1
        readiness.close()
        near.close()
        far.close()

    asyncio.run(run())


def test_a_worker_that_is_done_is_left_alone() -> None:
    """A worker gets steps until it says that nothing is left, and again when it is queued again."""

    class Once:
        steps = 0

        def step(self) -> bool:
            self.steps += 1
            return False

    async def run() -> None:
        readiness = Readiness(asyncio.get_running_loop())
        worker = Once()
        for expected in (1, 2):
            readiness.queue(worker)
            readiness.queue(worker)
            for _ in range(5):
                await asyncio.sleep(0)
            assert worker.steps == expected
        readiness.close()
        readiness.close()

    asyncio.run(run())
