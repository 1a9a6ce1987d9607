"""How long a name's addresses are used, and what is used when upstream does not answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from relaying import Answer

from meshdns.relay.names import RETRY_S, Addresses, Family, Names

V4 = ip_address("198.51.100.1")
OTHER = ip_address("198.51.100.2")
V6 = ip_address("2001:db8::1")


@dataclass
class Upstream:
    """Answers from `zone`, which a test changes; an exception in it is a failure, what is not in it has no address."""

    zone: dict[Family, Answer | Exception] = field(default_factory=dict)
    asked: list[Family] = field(default_factory=list)

    async def resolve(self, _: str, family: Family) -> Answer:
        self.asked.append(family)
        answer = self.zone.get(family, Answer(()))
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer.after_s)
        return answer


@dataclass
class Clock:
    """A clock that a test puts forward."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_name_is_asked_again_after_its_ttl() -> None:
    """Within the TTL nothing is asked; after it the new addresses are used."""
    upstream = Upstream({4: Answer((V4,), ttl_s=30), 6: Answer((), ttl_s=60)})
    clock = Clock()

    async def run() -> None:
        names = Names(upstream.resolve, clock)
        assert names.fresh("a.example") is None
        assert await names.ask("a.example") == Addresses((), (V4,))
        assert names.fresh("a.example") == Addresses((), (V4,))
        clock.now += 31
        upstream.zone[4] = Answer((OTHER,))
        assert names.fresh("a.example") is None
        assert await names.ask("a.example") == Addresses((), (OTHER,))
        assert upstream.asked == [6, 4, 4]

    asyncio.run(run())


def test_the_last_good_addresses_stay_when_upstream_fails() -> None:
    """A failure takes nothing away and is not repeated for every connection; an answer without addresses does."""
    upstream = Upstream({4: Answer((V4,))})
    clock = Clock()

    async def run() -> None:
        names = Names(upstream.resolve, clock)
        await names.ask("a.example")
        clock.now += 31
        upstream.zone = {4: OSError(), 6: OSError()}
        assert await names.ask("a.example") == Addresses((), (V4,))
        assert names.fresh("a.example") == Addresses((), (V4,))
        clock.now += RETRY_S + 1
        upstream.zone = {}
        assert await names.ask("a.example") == Addresses()

    asyncio.run(run())


def test_a_name_that_never_resolved_has_no_addresses() -> None:
    """Without a last good answer a failure gives no address, and no error."""

    async def run() -> None:
        upstream = Upstream({4: OSError(), 6: OSError()})
        assert not await Names(upstream.resolve).ask("a.example")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ({4: Answer((V4,)), 6: Answer((V6,), after_s=30)}, Addresses((), (V4,))),
        ({4: Answer((V4,)), 6: Answer((V6,), after_s=0.01)}, Addresses((V6,), (V4,))),
        ({4: Answer((V4,), after_s=0.2)}, Addresses((), (V4,))),
        ({6: Answer((V6,)), 4: OSError()}, Addresses((V6,), ())),
    ],
    ids=["AAAA hangs", "AAAA a little later", "no AAAA, A later", "A fails"],
)
def test_one_family_does_not_wait_for_the_other(zone: dict[Family, Answer | Exception], expected: Addresses) -> None:
    """Addresses of one family are used 50 ms after they came; without any the other family is waited for."""

    async def run() -> None:
        names = Names(Upstream(zone).resolve)
        async with asyncio.timeout(5):
            assert await names.ask("a.example") == expected
        names.close()

    asyncio.run(run())


def test_a_slow_upstream_does_not_hold_up_a_known_name() -> None:
    """With old addresses at hand a connection waits half a second for new ones, and these are taken when they come."""
    upstream = Upstream({4: Answer((V4,))})
    clock = Clock()

    async def run() -> None:
        names = Names(upstream.resolve, clock)
        await names.ask("a.example")
        clock.now += 31
        upstream.zone[4] = Answer((OTHER,), after_s=0.7)
        assert await names.ask("a.example") == Addresses((), (V4,))
        await asyncio.sleep(0.4)
        assert names.last_good("a.example") == Addresses((), (OTHER,))

    asyncio.run(run())


def test_connections_share_a_question() -> None:
    """A hundred connections at once ask once per family."""
    upstream = Upstream({4: Answer((V4,), after_s=0.05)})

    async def run() -> None:
        names = Names(upstream.resolve)
        found = await asyncio.gather(*(names.ask("a.example") for _ in range(100)))
        assert set(found) == {Addresses((), (V4,))}
        assert sorted(upstream.asked) == [4, 6]

    asyncio.run(run())
