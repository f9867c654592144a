"""Refreshing ahead of expiry: what is due when, and what an outcome does to the pool."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from authpool.accounts.account import Account, AccountKey, Token
from authpool.config import HostPattern, PoolConfig
from authpool.pool.pool import Pool, State
from authpool.refresh.background_flights import BACKGROUND_FLIGHTS
from authpool.refresh.outcome import Dead, Gone, Misconfigured, Outcome, Ready, Unavailable
from authpool.refresh.schedule import RefreshSchedule
from authpool_round_robin import RoundRobin
from support.clock import FakeClock

CONFIG = PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),))


class ScriptedRefresher:
    """Answers refreshes as told, and notes when each was asked for (Unix seconds)."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[tuple[float, str]] = []
        self.outcome: Outcome | None = None
        self.schedule: RefreshSchedule | None = None
        self.gate: asyncio.Event | None = None
        self.under_way = 0
        self.most_under_way = 0
        self.down = False

    def endpoint_down(self, url: str) -> bool:
        return self.down

    async def refresh(self, account: Account, *, probe: bool = False) -> Outcome:
        assert probe
        self.asked.append((self.clock.time(), account.name))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if self.gate is not None:
            await self.gate.wait()
        self.under_way -= 1
        token = replace(account.token, access_token=f"new-{len(self.asked)}", expires_at=int(self.clock.time()) + 3600)
        outcome = self.outcome or Ready(account=account.with_token(token), posted=True)
        assert self.schedule is not None
        self.schedule.settle(account.key, outcome)
        return outcome


class World:
    """A pool with a schedule on a clock that is turned by hand."""

    def __init__(self, clock: FakeClock, *accounts: Account) -> None:
        self.clock = clock
        self.pool = Pool(CONFIG, RoundRobin, clock, accounts)
        self.refresher = ScriptedRefresher(clock)
        self.schedule = RefreshSchedule(lambda: {"p": self.pool}, self.refresher, clock, random.Random(1))  # type: ignore[arg-type]
        self.refresher.schedule = self.schedule
        for member in self.pool:
            self.schedule.plan(member)
        self.task = asyncio.create_task(self.schedule.run())

    def state(self, name: str = "alice") -> State:
        member = self.pool.get(AccountKey.of("p", name))
        assert member is not None
        return member.state(self.clock.time())


def account(clock: FakeClock, name: str = "alice", *, lifetime: int = 3600, **changes: bool) -> Account:
    expires_at = int(clock.time()) + lifetime
    token = Token(access_token=f"old-{name}", refresh_token=f"refresh-{name}", expires_at=expires_at)
    return replace(Account(pool="p", name=name, token=token), **changes)


@pytest.fixture
async def worlds(clock: FakeClock) -> AsyncIterator[list[World]]:
    """Worlds that are ended with the test."""
    started: list[World] = []
    yield started
    for world in started:
        world.task.cancel()
        await asyncio.gather(world.task, return_exceptions=True)


@pytest.mark.parametrize("paused", (False, True))
async def test_an_account_is_refreshed_within_its_advisory_window(
    *, paused: bool, clock: FakeClock, worlds: list[World]
) -> None:
    """Not before the window and its jitter, not after its start; a paused account is kept alive too."""
    began = clock.time()
    world = World(clock, account(clock, proxy_disabled=paused))
    worlds.append(world)
    await clock.advance(3600 - 300 * 1.2 - 1)
    assert world.refresher.asked == []
    await clock.advance(61 + 1)
    (at, name), *more = world.refresher.asked
    assert (name, more) == ("alice", [])
    assert 3600 - 360 <= at - began <= 3600 - 300
    assert world.state() is (State.PAUSED if paused else State.READY)


async def test_it_goes_on_and_on(clock: FakeClock, worlds: list[World]) -> None:
    """Each refresh plans the next: a day has about 26 of them for an hour's token."""
    world = World(clock, account(clock))
    worlds.append(world)
    await clock.advance(86400)
    assert 24 <= len(world.refresher.asked) <= 28


async def test_a_disabled_account_is_left_alone(clock: FakeClock, worlds: list[World]) -> None:
    """Nothing presents a token that is known to be dead."""
    world = World(clock, account(clock, disabled=True))
    worlds.append(world)
    await clock.advance(86400)
    assert world.refresher.asked == []


async def test_an_account_without_an_access_token_gets_one_at_once(clock: FakeClock, worlds: list[World]) -> None:
    """A refresh token alone is proved within seconds, not at the first request."""
    world = World(clock, replace(account(clock), token=Token(refresh_token="r")))
    worlds.append(world)
    await clock.advance(2)
    assert len(world.refresher.asked) == 1


async def test_failures_back_off_and_a_live_token_goes_on_serving(clock: FakeClock, worlds: list[World]) -> None:
    """While the token lives the account serves; past its end it cools until the next try."""
    world = World(clock, account(clock, lifetime=100))
    worlds.append(world)
    world.refresher.outcome = Unavailable(detail="HTTP 503")
    await clock.advance(90)
    tries = len(world.refresher.asked)
    assert 2 <= tries <= 8
    assert world.state() is State.READY
    await clock.advance(60)
    assert world.state() is State.COOLING
    assert len(world.refresher.asked) < tries + 10
    world.refresher.outcome = None
    await clock.advance(31)
    assert world.state() is State.READY


async def test_an_accounts_own_trouble_is_asked_again_soon_and_then_seldom(
    clock: FakeClock, worlds: list[World]
) -> None:
    """A service identity's only account does not wait five minutes for what passes in a second."""
    world = World(clock, account(clock, lifetime=0))
    worlds.append(world)
    world.refresher.outcome = Unavailable(detail="invalid_grant", cause="account")
    await clock.advance(1800)
    times = [at for at, _ in world.refresher.asked]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[0] <= 3
    assert max(pauses) <= 300
    assert 8 <= len(times) <= 24


async def test_retry_after_is_honoured(clock: FakeClock, worlds: list[World]) -> None:
    """The endpoint said when to come back: not before."""
    world = World(clock, account(clock, lifetime=100))
    worlds.append(world)
    world.refresher.outcome = Unavailable(detail="HTTP 429", retry_after_seconds=500)
    await clock.advance(99)
    assert len(world.refresher.asked) == 1
    await clock.advance(400)
    assert len(world.refresher.asked) == 1
    await clock.advance(100)
    assert len(world.refresher.asked) == 2


@pytest.mark.parametrize("step", (-3600, 3600))
async def test_a_clock_that_is_put_keeps_nobody_waiting(
    step: int, clock: FakeClock, worlds: list[World], caplog: pytest.LogCaptureFixture
) -> None:
    """A wait of seconds stays one of seconds; it is not cut short either."""
    world = World(clock, account(clock, lifetime=-7200))
    worlds.append(world)
    world.refresher.outcome = Unavailable(detail="HTTP 429", retry_after_seconds=100)
    await clock.advance(1)
    assert world.state() is State.COOLING
    clock.jump(step)
    asked = len(world.refresher.asked)
    await clock.advance(80)
    assert len(world.refresher.asked) == asked
    assert world.state() is State.COOLING
    world.refresher.outcome = None
    await clock.advance(40)
    assert len(world.refresher.asked) == asked + 1
    assert world.state() is State.READY
    assert caplog.text.count("The clock was put") == 1


async def test_trouble_with_the_store_is_told_once_for_all_accounts(
    clock: FakeClock, worlds: list[World], caplog: pytest.LogCaptureFixture
) -> None:
    """And once when it is over."""
    world = World(clock, *(account(clock, f"a{number}", lifetime=-10) for number in range(20)))
    worlds.append(world)
    world.refresher.outcome = Unavailable(detail="/x: No space left on device", cause="store")
    await clock.advance(60)
    assert caplog.text.count("No space left on device") == 1
    world.refresher.outcome = None
    await clock.advance(60)
    assert caplog.text.count("Refreshes wait for the store no more") == 1
    assert world.state("a7") is State.READY


async def test_a_dead_account_leaves_the_pool(clock: FakeClock, worlds: list[World]) -> None:
    """It is noticed although no request used it, within one advisory window of its token's end."""
    alice = account(clock)
    world = World(clock, alice)
    worlds.append(world)
    world.refresher.outcome = Dead(account=alice.with_disabled("invalid_grant", clock.time()))
    await clock.advance(3600 - 300)
    assert world.state() is State.DISABLED
    await clock.advance(86400)
    assert len(world.refresher.asked) == 1


async def test_a_rejected_client_disables_nobody(clock: FakeClock, worlds: list[World]) -> None:
    """The configuration is wrong: the account waits for it to be mended."""
    world = World(clock, account(clock, lifetime=100))
    worlds.append(world)
    world.refresher.outcome = Misconfigured(detail="invalid_client")
    await clock.advance(200)
    assert world.state() is State.COOLING


async def test_few_flights_at_a_time(clock: FakeClock, worlds: list[World]) -> None:
    """However many expire together, the token endpoint sees a handful of refreshes at once."""
    world = World(clock, *(account(clock, f"a{number}", lifetime=-10) for number in range(100)))
    worlds.append(world)
    world.refresher.gate = asyncio.Event()
    await clock.advance(1)
    assert world.refresher.under_way == BACKGROUND_FLIGHTS
    world.refresher.gate.set()
    for _ in range(100):
        await clock.settle()
    assert {name for _, name in world.refresher.asked} == {f"a{number}" for number in range(100)}
    assert world.refresher.most_under_way == BACKGROUND_FLIGHTS


async def test_those_who_wait_for_a_token_endpoint_cool_and_are_woken_when_it_is_back(
    clock: FakeClock, worlds: list[World]
) -> None:
    """No one's own backoff counts: the first success lets all of them come, within a second for so few."""
    world = World(clock, *(account(clock, f"a{number}", lifetime=-10) for number in range(20)))
    worlds.append(world)
    world.refresher.down = True
    world.refresher.outcome = Unavailable(detail="down", retry_after_seconds=100, endpoint="url", asked=False)
    await clock.advance(1)
    assert [world.state(f"a{number}") for number in range(20)] == [State.COOLING] * 20
    asked = len(world.refresher.asked)
    assert asked == 20
    world.refresher.down, world.refresher.outcome = False, None
    alice = account(clock, "a0")
    world.schedule.settle(alice.key, Ready(account=alice, posted=True))
    assert [world.state(f"a{number}") for number in range(20)] == [State.READY] * 20
    await clock.advance(1)
    assert {name for _, name in world.refresher.asked[asked:]} == {f"a{number}" for number in range(1, 20)}


async def test_who_failed_alone_keeps_to_its_own_backoff(clock: FakeClock, worlds: list[World]) -> None:
    """The others' successes do not set it going again: it may be in trouble of its own."""
    world = World(clock, account(clock, lifetime=-10), account(clock, "bob"))
    worlds.append(world)
    world.refresher.outcome = Unavailable(detail="HTTP 500", endpoint="url")
    await clock.advance(60)
    asked = len(world.refresher.asked)
    bob = account(clock, "bob")
    for _ in range(60):
        world.schedule.settle(bob.key, Ready(account=bob, posted=True))
        await clock.advance(1)
    assert 3 <= len(world.refresher.asked) - asked <= 9


async def test_an_account_whose_record_is_gone_is_not_looked_for_over_and_over(
    clock: FakeClock, worlds: list[World]
) -> None:
    """Whoever follows the store takes it out of the pool in a moment; until then it is due all the time."""
    world = World(clock, account(clock, lifetime=100))
    worlds.append(world)
    asked = 0

    async def gone(account: Account, *, probe: bool = False) -> Outcome:
        nonlocal asked
        asked += 1
        if asked > 50:
            await asyncio.Event().wait()
        world.schedule.settle(account.key, Gone(detail="the account is gone or broken"))
        return Gone(detail="the account is gone or broken")

    world.refresher.refresh = gone  # type: ignore[method-assign]
    for _ in range(11):
        await clock.advance(10)
    assert 1 <= asked <= 50


async def test_what_another_process_fetched_is_no_failure_when_it_is_due_again(
    clock: FakeClock, worlds: list[World]
) -> None:
    """With tokens that last seconds, what is taken over is at its end already: requests must go on to wait for one."""
    world = World(clock, account(clock))
    worlds.append(world)
    fetched = account(clock)  # whoever follows the store has put it into the pool already
    world.refresher.outcome = Ready(account=fetched, posted=False)
    await clock.advance(3600 - 300)
    member = world.pool.get(fetched.key)
    assert world.refresher.asked
    assert member is not None
    assert member.failures == 0
    await clock.advance(299)
    assert 2 <= len(world.refresher.asked) <= 12, "it is asked again before the end, and not all the time"
