"""Connecting to the first endpoint that answers: the next one on refusal or after a delay, the earlier ones still open.

Decides: when an attempt starts, which one wins, which endpoints rest afterwards. Never here: which endpoints there are
(`route`), how chance orders them (`order`), what happens with the connected socket. RFC 8305, section 5.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from meshdns.relay.address import Address
from meshdns.relay.attempt import Attempt, Candidate, Failure
from meshdns.relay.names import Addresses, Names
from meshdns.relay.order import Rest, by_turns, weighted
from meshdns.relay.readiness import Readiness
from meshdns.relay.route import Destination, DnsName, Target

FAMILY_DELAY_S: Final = 0.25
"""After this long the next address of the same name is tried, in the other family: RFC 8305, section 5."""

FILES_RETRY_S: Final = 0.1
"""When descriptors are short, an attempt waits this long for somebody to close one."""


@dataclass(frozen=True, slots=True)
class Dialler:
    """What all dials share.

    `leads_back` knows the addresses that would come back to this relay. `short_of_files` is called when there was no
    descriptor for an attempt.
    """

    loop: asyncio.AbstractEventLoop
    readiness: Readiness
    names: Names
    rest: Rest
    draw: Callable[[], float]
    attempt_delay_s: float
    timeout_s: float
    leads_back: Callable[[Target, int], bool]
    short_of_files: Callable[[], None]

    def dial(self, destinations: Sequence[Destination], done: Callable[[Attempt | Failure], None]) -> Dial:
        """Begin. `done` is called once, perhaps before this returns: with the attempt that won, or why none did."""
        now = monotonic()
        in_order = self.rest.rested_first(weighted(destinations, self.draw), lambda one: self.rests(one, now) > 0)
        dial = Dial(self, in_order, done)
        dial.advance()
        return dial

    def rests(self, destination: Destination, now: float) -> float:
        """Say how long a destination still rests, in seconds; a name does while all addresses of it do."""
        target = destination.target
        if not isinstance(target, DnsName):
            return self.rest.left((target, destination.port), now)
        return min((self.rest.left((one, destination.port), now) for one in self.addresses(destination)), default=0.0)

    def addresses(self, destination: Destination) -> tuple[Address, ...]:
        """List the addresses that a destination's name has, as far as they are known; none if it is no name."""
        if not isinstance(destination.target, DnsName):
            return ()
        known = self.names.last_good(destination.target.name)
        return known.v6 + known.v4

    def candidates(self, addresses: Addresses, port: int) -> list[Candidate]:
        """List a name's addresses: each family in random order, the families by turns, those that rest last."""
        now = monotonic()
        in_turn = by_turns(self._shuffled(addresses.v6), self._shuffled(addresses.v4))
        rested_first = self.rest.rested_first(in_turn, lambda one: self.rest.left((one, port), now) > 0)
        return [Candidate(address, port, of_name=True) for address in rested_first]

    def _shuffled(self, addresses: Sequence[Address]) -> list[Address]:
        return sorted(addresses, key=lambda _: self.draw())


class Dial:
    """One client's way to an endpoint."""

    __slots__ = (
        "_attempts",
        "_candidates",
        "_deadline",
        "_dialler",
        "_done",
        "_failure",
        "_next_at",
        "_resolving",
        "_untried",
    )

    def __init__(
        self, dialler: Dialler, destinations: Sequence[Destination], done: Callable[[Attempt | Failure], None]
    ) -> None:
        self._dialler = dialler
        self._done: Callable[[Attempt | Failure], None] | None = done
        self._untried = deque(destinations)
        self._candidates: deque[Candidate] = deque()
        self._attempts: dict[int, Attempt] = {}
        self._resolving: set[asyncio.Task[None]] = set()
        self._next_at: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._failure = Failure.UNRESOLVED  # until an address has been tried

    @property
    def is_over(self) -> bool:
        """Whether `done` was called."""
        return self._done is None

    def advance(self) -> None:
        """Start the next attempt; when none is left, wait for those under way, or fail if there are none."""
        self._stop_waiting()
        while self._done is not None:
            candidate = self._next_candidate()
            if candidate is None:
                if not self._attempts and not self._resolving:
                    self._end(self._failure)
                return
            if self._try(candidate):
                return

    def ready(self, fd: int, events: int) -> None:  # noqa: ARG002 - connect(2) itself is asked, not the event
        """Look at an attempt that the kernel reports."""
        attempt = self._attempts[fd]
        attempt.look()
        if attempt.connected:
            self._won(attempt)
        elif attempt.failure is not None:
            self._dialler.readiness.forget(fd)
            del self._attempts[fd]
            self._failed(attempt.candidate, attempt.failure)
            self.advance()

    def give_up(self, failure: Failure) -> None:
        """End now."""
        self._end(failure)

    def _next_candidate(self) -> Candidate | None:
        while not self._candidates and self._untried:
            destination = self._untried.popleft()
            target = destination.target
            if not isinstance(target, DnsName):
                return Candidate(target, destination.port)
            known = self._dialler.names.fresh(target.name)
            if known is None:
                self._resolve(target.name, destination.port)
                return None
            self._candidates.extend(self._dialler.candidates(known, destination.port))
        return self._candidates.popleft() if self._candidates else None

    def _resolve(self, name: str, port: int) -> None:
        """Ask for a name's addresses; it takes its turn like an attempt."""

        async def ask() -> None:
            addresses = await self._dialler.names.ask(name)
            self._candidates.extendleft(reversed(self._dialler.candidates(addresses, port)))

        def asked(task: asyncio.Task[None]) -> None:
            self._resolving.discard(task)
            if not task.cancelled():
                self.advance()

        task = self._dialler.loop.create_task(ask())
        self._resolving.add(task)
        task.add_done_callback(asked)
        self._wait(self._dialler.attempt_delay_s)

    def _try(self, candidate: Candidate) -> bool:
        """Start an attempt; False when it has failed at once and the next one is due."""
        if self._dialler.leads_back(candidate.place, candidate.port):
            self._failure = Failure.LOOP
            return False
        attempt = Attempt(candidate)
        if attempt.connected:
            self._won(attempt)
        elif attempt.failure is Failure.NO_FILES:
            self._failure = attempt.failure
            self._candidates.appendleft(candidate)
            self._dialler.short_of_files()
            self._wait(FILES_RETRY_S)
        elif attempt.failure is not None:
            self._failed(candidate, attempt.failure)
            return False
        else:
            fd = attempt.sock.fileno()
            self._attempts[fd] = attempt
            self._dialler.readiness.watch(fd, self)
            self._wait(self._delay_after(candidate))
        return True

    def _delay_after(self, candidate: Candidate) -> float:
        following = self._candidates[0] if self._candidates else None
        if following is not None and candidate.of_name and following.family != candidate.family:
            return min(FAMILY_DELAY_S, self._dialler.attempt_delay_s)
        return self._dialler.attempt_delay_s

    def _wait(self, delay_s: float) -> None:
        """Go on after a delay if there is something to go on with, and until the deadline at most."""
        loop = self._dialler.loop
        if self._deadline is None:
            self._deadline = loop.call_later(self._dialler.timeout_s, self._expired)
        if self._candidates or self._untried:
            self._next_at = loop.call_later(delay_s, self.advance)

    def _stop_waiting(self) -> None:
        if self._next_at is not None:
            self._next_at.cancel()
            self._next_at = None

    def _expired(self) -> None:
        for attempt in self._attempts.values():
            self._failed(attempt.candidate, Failure.TIMEOUT)
        self._end(self._failure)

    def _failed(self, candidate: Candidate, failure: Failure) -> None:
        self._failure = failure
        # Who resets has answered, and only this connection: others may fare better.
        if failure is not Failure.RESET:
            self._dialler.rest.failed((candidate.place, candidate.port), monotonic())

    def _won(self, winner: Attempt) -> None:
        """Keep this one. Those that began earlier and still have not answered rest."""
        self._dialler.rest.worked((winner.candidate.place, winner.candidate.port))
        if self._attempts.pop(winner.sock.fileno(), None) is not None:
            self._dialler.readiness.forget(winner.sock.fileno())
        for attempt in self._attempts.values():
            if attempt.started_at < winner.started_at:
                self._failed(attempt.candidate, Failure.TIMEOUT)
        self._end(winner)

    def _end(self, outcome: Attempt | Failure) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        self._stop_waiting()
        if self._deadline is not None:
            self._deadline.cancel()
        for fd, attempt in self._attempts.items():
            self._dialler.readiness.forget(fd)
            attempt.sock.close()
        self._attempts.clear()
        for task in self._resolving:
            task.cancel()
        done(outcome)
