"""Answers from the table are timed now and then, and what is told of them is so."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Hashable

import dns.message
import pytest
from tables import WORLD, table_of

from meshdns.resolver.query.answer import Forward
from meshdns.resolver.serve import sampling
from meshdns.resolver.serve.datagram import DatagramListener
from meshdns.resolver.serve.sampling import SampledLoop

WITHIN_S = 20.0


def lost(_packet: bytes, _forward: Forward, _client: Hashable, _limit: int, _respond: object) -> None:
    """Forward nothing."""


def here() -> SampledLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SampledLoop)
    return loop


def query(name: str) -> bytes:
    return dns.message.make_query(name, "A").to_wire()


@pytest.mark.parametrize(("batched", "burst"), [(False, 1), (True, 50)])
def test_samples_are_of_answers_that_were_given(*, batched: bool, burst: int) -> None:
    """Several samples come, none is longer than it can be or has more answers than were asked for; all is answered."""

    async def story() -> None:
        told: list[tuple[float, int]] = []
        with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
            server.bind(("127.0.0.1", 0))
            client.connect(server.getsockname())
            client.setblocking(False)
            listener = DatagramListener(server, table_of(*WORLD), lost)
            if batched:
                listener.read_many()
            listener.start(here())
            here().time_turns(server.fileno(), listener.counters.tally, lambda s, count: told.append((s, count)))
            began_s, asked = here().time(), 0
            while len(told) < 3:
                for _ in range(burst):
                    client.send(query("address.internal"))
                for _ in range(burst):
                    await here().sock_recv(client, 512)
                asked += burst
            listener.stop()
            assert sum(seconds for seconds, _ in told) <= here().time() - began_s
            assert all(seconds > 0 and 1 <= count <= burst for seconds, count in told)
            assert sum(count for _, count in told) <= asked == sum(listener.counters.tally.values())

    with asyncio.Runner(loop_factory=SampledLoop) as runner:
        runner.run(asyncio.wait_for(story(), WITHIN_S))


def test_a_turn_that_answers_nothing_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails or forwards is no sample and ends no sampling; a descriptor without turns has none."""
    monkeypatch.setattr(sampling, "EVERY_S", 0.0)

    async def story() -> None:
        told: list[int] = []
        seen: asyncio.Queue[bytes] = asyncio.Queue()
        tally: Counter[bytes] = Counter()
        here().set_exception_handler(lambda _loop, _context: None)
        with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
            server.bind(("127.0.0.1", 0))

            def turn() -> None:
                packet = server.recv(512)
                seen.put_nowait(packet)
                if packet == b"fails":
                    raise ValueError("as it was told to")
                tally[b"kind"] += packet == b"answers"

            def sample() -> None:
                here().time_turns(server.fileno(), tally, lambda _seconds, count: told.append(count))

            sample()
            here().add_turn(server.fileno(), turn)
            sample()
            for text in (b"fails", b"forwards", b"answers"):
                client.sendto(text, server.getsockname())
                assert await seen.get() == text
            here().remove_turn(server.fileno())
        assert told == [1]

    with asyncio.Runner(loop_factory=SampledLoop) as runner:
        runner.run(asyncio.wait_for(story(), WITHIN_S))
