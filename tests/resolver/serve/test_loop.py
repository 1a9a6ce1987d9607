"""The loop that answers while it waits is an asyncio loop in every other respect."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from meshdns.resolver.serve.loop import AnsweringLoop

WITHIN_S = 10.0


def run(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=AnsweringLoop) as runner:
        runner.run(asyncio.wait_for(story, WITHIN_S))


def here() -> AnsweringLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, AnsweringLoop)
    return loop


class Echo:
    """Counts the datagrams of a socket."""

    def __init__(self) -> None:
        self.one, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.got: list[bytes] = []
        here().add_turn(self.one.fileno(), self._turn)

    def _turn(self) -> None:
        self.got.append(self.one.recv(16))

    def close(self) -> None:
        here().remove_turn(self.one.fileno())
        self.one.close()
        self.other.close()


def test_turns_run_while_it_waits() -> None:
    """A turn runs when its socket can be read, without anything else in the loop."""

    async def story() -> None:
        echo = Echo()
        echo.other.send(b"a")
        echo.other.send(b"b")
        await asyncio.sleep(0.05)
        assert echo.got == [b"a", b"b"]
        echo.close()

    run(story())


def test_a_removed_turn_runs_no_more() -> None:
    """After removal nothing is read, and removing again is nothing."""

    async def story() -> None:
        echo = Echo()
        here().remove_turn(echo.one.fileno())
        here().remove_turn(echo.one.fileno())
        echo.other.send(b"a")
        await asyncio.sleep(0.05)
        assert echo.got == []
        echo.close()

    run(story())


def test_timers_are_on_time() -> None:
    """A timer waits for no turn, and none fires early, though turns come all the time."""

    async def story() -> None:
        echo = Echo()
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                echo.other.send(b"x")

        sender = asyncio.get_running_loop().run_in_executor(None, send)
        try:
            for _ in range(10):
                begun = time.monotonic()
                await asyncio.sleep(0.02)
                assert time.monotonic() - begun + 0.001 >= 0.02
        finally:
            stop.set()
            await sender
        assert echo.got
        echo.close()

    run(story())


@pytest.mark.parametrize("schedule", ["soon", "later", "future", "task", "reader"])
def test_what_a_turn_schedules_runs_at_once(schedule: str) -> None:
    """A callback, a timer, a result, a task, a reader that come of a turn are taken up although nothing else comes."""

    async def story() -> None:
        loop = here()
        done = loop.create_future()
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        tasks = []

        async def finish() -> None:
            done.set_result(None)

        def turn() -> None:
            one.recv(16)
            if schedule == "soon":
                loop.call_soon(done.set_result, None)
            elif schedule == "later":
                loop.call_later(0.01, done.set_result, None)
            elif schedule == "future":
                done.set_result(None)
            elif schedule == "task":
                tasks.append(loop.create_task(finish()))
            else:
                loop.add_reader(readable, read)

        def read() -> None:
            readable.recv(1)
            done.set_result(None)

        readable, writable = socket.socketpair()
        writable.send(b"a")
        loop.add_turn(one.fileno(), turn)
        other.send(b"a")
        await done
        loop.remove_reader(readable)
        loop.remove_turn(one.fileno())
        for sock in (one, other, readable, writable):
            sock.close()

    run(story())


def test_a_turn_that_fails_ends_no_loop() -> None:
    """The error is told to the loop's handler, and the next turn runs."""

    async def story() -> None:
        loop, told = here(), []
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

        def turn() -> None:
            raise ValueError(one.recv(16))

        loop.add_turn(one.fileno(), turn)
        other.send(b"a")
        other.send(b"b")
        await asyncio.sleep(0.05)
        loop.remove_turn(one.fileno())
        assert [str(error) for error in told] == ["b'a'", "b'b'"]
        one.close()
        other.close()

    run(story())


def test_threads_signals_and_children_wake_it() -> None:
    """Other threads, signals and child processes reach the loop as they reach asyncio's own."""

    async def story() -> None:
        loop = here()
        echo = Echo()
        assert await loop.run_in_executor(None, lambda: 7) == 7
        done = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR2, done.set_result, None)
        os.kill(os.getpid(), signal.SIGUSR2)
        await done
        loop.remove_signal_handler(signal.SIGUSR2)
        child = await asyncio.create_subprocess_exec("true")
        assert await child.wait() == 0
        echo.close()

    run(story())


def test_streams_work_beside_turns() -> None:
    """TCP servers and clients share the loop with turns that never end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def story() -> None:
        echo = Echo()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            for number in range(10):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"%d\n" % number)
                echo.other.send(b"x")
                assert await reader.read() == b"%d\n" % number
                writer.close()
                await writer.wait_closed()
        assert len(echo.got) == 10
        echo.close()

    run(story())
