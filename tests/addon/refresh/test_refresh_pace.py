"""How often a token endpoint is asked in the background: success without progress, and one that hangs."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from authpool.accounts.account import Account, AccountKey, Token
from authpool.config import PoolConfig
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.verdict import Answer, Reply
from authpool.pool.pool import Pool, State
from authpool.refresh.background_flights import BACKGROUND_FLIGHTS
from authpool.refresh.outcome import Outcome, Ready, Unavailable
from authpool.refresh.refresher import Refresher
from authpool.refresh.schedule import BACKOFF_SECONDS, RefreshSchedule
from authpool.requests.account_picker import AccountPicker
from authpool.requests.pooled_request import PooledRequest
from authpool.rotation.rotation import RotationRequest
from authpool_round_robin import RoundRobin
from support.clock import FakeClock
from support.crashing_process import no_discovery
from support.outage import MemoryStore
from support.virtual_time import VirtualClock, VirtualTimeLoop
from support.world import pool_config

LIFETIME = 3600


class StaleEndpoint:
    """Answers the same access token until it ends, with what is left of it; a new one from `renew_seconds` before."""

    def __init__(self, clock: VirtualClock, *, renew_seconds: float = 0, rotate: bool = False) -> None:
        self.clock = clock
        self.renew_seconds = renew_seconds
        self.rotate = rotate
        self.ends_at = clock.time() + LIFETIME
        self.number = 0
        self.posts: list[float] = []
        """What was left of the token at each, in seconds."""

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        await asyncio.sleep(0.1)
        now = self.clock.time()
        self.posts.append(self.ends_at - now)
        if self.ends_at - now <= self.renew_seconds:
            self.number += 1
            self.ends_at = now + LIFETIME
        answer = {"access_token": f"access-{self.number}", "expires_in": int(self.ends_at - now)}
        if self.rotate:
            answer["refresh_token"] = f"refresh-{len(self.posts)}"
        return Reply(status=200, body=json.dumps(answer).encode())

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        raise NotImplementedError


class RefreshTokensOnly(StaleEndpoint):
    """Answers a new refresh token each time, and never an access token."""

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        self.posts.append(self.ends_at - self.clock.time())
        return Reply(status=200, body=json.dumps({"refresh_token": f"r{len(self.posts)}"}).encode())


class Play:
    """One account whose token was given a moment ago, and whoever keeps it alive, in virtual time."""

    def __init__(self, loop: VirtualTimeLoop, endpoint: Callable[[VirtualClock], StaleEndpoint]) -> None:
        clock = VirtualClock(loop)
        self.endpoint = endpoint(clock)
        token = Token(access_token="access-0", refresh_token="r0", expires_at=int(clock.time()) + LIFETIME)
        account = Account(pool="p", name="alice", generation=1, token=token)
        config = replace(pool_config(), name="p")
        self.clock = clock
        self.pool = Pool(config, RoundRobin, clock, [account])
        self.refresher = Refresher(
            store=MemoryStore([account]),
            endpoint=self.endpoint,
            resolver=EndpointResolver(no_discovery),
            pools=lambda: {"p": config},
            clock=clock,
            settled=lambda key, outcome: self.schedule.settle(key, outcome),  # noqa: PLW0108 - it is made below
            rng=Random(1),
        )
        self.schedule = RefreshSchedule(lambda: {"p": self.pool}, self.refresher, clock, Random(1))
        (self.member,) = self.pool
        self.schedule.plan(self.member)
        self.running = loop.create_task(self.schedule.run())

    @property
    def state(self) -> State:
        return self.member.state(self.clock.time())


@pytest.fixture
def play() -> Iterator[Callable[..., Play]]:
    """Begin a play; its time passes in `pass_seconds`."""
    loop = VirtualTimeLoop()
    plays: list[Play] = []

    def begin(endpoint: type[StaleEndpoint] = StaleEndpoint, **how: Any) -> Play:
        plays.append(Play(loop, lambda clock: endpoint(clock, **how)))
        return plays[0]

    yield begin
    for one in plays:
        one.running.cancel()
        loop.run_until_complete(asyncio.gather(one.running, return_exceptions=True))
    loop.close()


def pass_seconds(play: Play, seconds: float) -> None:
    play.running.get_loop().run_until_complete(asyncio.sleep(seconds))


@pytest.mark.parametrize("rotate", (False, True))
@pytest.mark.parametrize("renew_seconds", (200, 60, 10))
def test_the_same_token_again_is_asked_for_more_and_more_seldom_and_replaced_in_time(
    renew_seconds: int, play: Callable[..., Play], *, rotate: bool
) -> None:
    """Half of what is left passes between two tries: some ten in all, and the new one comes before the old one ends."""
    one = play(renew_seconds=renew_seconds, rotate=rotate)
    pass_seconds(one, LIFETIME - 400)
    assert one.endpoint.posts == []
    pass_seconds(one, 399)
    assert one.endpoint.number == 1
    assert one.state is State.READY
    assert 0 < one.endpoint.posts[-1] <= renew_seconds
    assert len(one.endpoint.posts) <= 10
    asked = len(one.endpoint.posts)
    pass_seconds(one, LIFETIME - 800)
    assert len(one.endpoint.posts) == asked


def test_requests_do_not_ask_for_what_did_not_come(play: Callable[..., Play]) -> None:
    """Within the last half minute each request would wait for a refresh; it is served with what there is."""
    one = play()
    picker = AccountPicker(lambda: {"p": one.pool}, one.refresher, one.clock)

    async def come() -> None:
        request = RotationRequest(method="GET", host="api.test", path="/")
        pooled = PooledRequest(pool="p", rotation="round_robin", request=request, max_accounts=3)
        await picker.acquire(pooled)
        assert pooled.access_token == "access-0"
        picker.release(pooled)

    pass_seconds(one, LIFETIME - 35)
    asked = len(one.endpoint.posts)
    for _ in range(300):
        one.running.get_loop().run_until_complete(come())
        pass_seconds(one, 0.1)
    assert len(one.endpoint.posts) - asked <= 6


def test_a_provider_that_gives_a_new_token_only_at_the_end_is_asked_then(play: Callable[..., Play]) -> None:
    """Nobody waits longer than for the answer."""
    one = play(renew_seconds=1)
    pass_seconds(one, LIFETIME + 0.5)
    assert one.endpoint.number == 1
    assert one.state is State.READY
    assert len(one.endpoint.posts) <= 12


def test_a_token_that_is_over_and_given_again_is_not_served(play: Callable[..., Play]) -> None:
    """Until there is another one the account cools, and the pauses grow up to the longest."""
    one = play(renew_seconds=-120)
    pass_seconds(one, LIFETIME + 30)
    assert one.state is State.COOLING
    assert len(one.endpoint.posts) <= 20
    pass_seconds(one, 120 + BACKOFF_SECONDS[1])
    assert one.endpoint.number == 1
    assert one.state is State.READY
    assert len(one.endpoint.posts) <= 40


def test_the_same_token_with_a_rounded_end_is_the_same_credential(play: Callable[..., Play]) -> None:
    """No new generation, and no other end, for a second more or less."""
    one = play()
    before = one.member.account
    pass_seconds(one, LIFETIME - 100)
    assert len(one.endpoint.posts) >= 2
    assert one.member.account == before


def test_an_endpoint_that_only_ever_gives_refresh_tokens_has_a_brake_too(play: Callable[..., Play]) -> None:
    """Each is a new credential, and each a failed refresh: the pauses grow, and the newest is kept."""
    one = play(RefreshTokensOnly)
    pass_seconds(one, LIFETIME - 400)
    assert one.endpoint.posts == []
    pass_seconds(one, 700)
    assert 20 <= len(one.endpoint.posts) <= 2 * (660 / (BACKOFF_SECONDS[1] / 2) + 5)
    assert one.state is State.COOLING
    assert one.member.account.token.refresh_token == f"r{len(one.endpoint.posts)}"


# --- slots ----------------------------------------------------------------------------------------------------


class HangingRefresher:
    """Refreshes of accounts of pool `hangs` never end; others succeed at once."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[AccountKey] = []
        self.settle: Callable[[AccountKey, Outcome], None] = lambda key, outcome: None

    def endpoint_down(self, url: str) -> bool:
        return False

    async def refresh(self, account: Account, *, probe: bool = False) -> Outcome:
        self.asked.append(account.key)
        if account.pool.startswith("hangs"):
            await asyncio.Event().wait()
        token = replace(account.token, access_token="new", expires_at=int(self.clock.time()) + LIFETIME)
        outcome = Ready(account=account.with_token(token), posted=True)
        self.settle(account.key, outcome)
        return outcome


def due(clock: FakeClock, pool: str, number: int) -> Account:
    token = Token(access_token="old", refresh_token=f"r-{pool}-{number}", expires_at=int(clock.time()) - 10)
    return Account(pool=pool, name=f"a{number}", token=token)


@pytest.mark.parametrize("issuer", (False, True))
async def test_an_endpoint_that_hangs_holds_up_nobody_else(clock: FakeClock, *, issuer: bool) -> None:
    """Its own accounts have so many refreshes under way, all others of other endpoints are refreshed."""
    hanging = {"issuer": "https://hangs.test", "token_url": None} if issuer else {"token_url": "https://hangs.test/t"}
    configs: dict[str, PoolConfig] = {
        "hangs": replace(pool_config(), name="hangs", **hanging),  # type: ignore[arg-type]
        "hangs_too": replace(pool_config(), name="hangs_too", **hanging),  # type: ignore[arg-type]
        "well": replace(pool_config(), name="well", token_url="https://well.test/t"),
    }
    pools = {
        name: Pool(config, RoundRobin, clock, [due(clock, name, number) for number in range(30)])
        for name, config in configs.items()
    }
    refresher = HangingRefresher(clock)
    schedule = RefreshSchedule(lambda: pools, refresher, clock)  # type: ignore[arg-type]
    refresher.settle = schedule.settle
    for name in ("hangs", "hangs_too", "well"):
        for member in pools[name]:
            schedule.plan(member)
            schedule.plan(member)  # twice, as a change of the record does
    running = asyncio.create_task(schedule.run())
    for _ in range(5):
        await clock.advance(1)
    asked = [key.pool for key in refresher.asked]
    assert asked.count("well") == 30
    assert asked.count("hangs") + asked.count("hangs_too") == BACKGROUND_FLIGHTS
    assert len(set(refresher.asked)) == len(refresher.asked)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await clock.settle()
    assert len(refresher.asked) == 30 + BACKGROUND_FLIGHTS


async def test_a_failure_with_a_new_credential_does_not_start_the_pauses_anew(clock: FakeClock) -> None:
    """What the pool knows of the account is up to date, and its count of failures goes on."""
    pool = Pool(replace(pool_config(), name="p"), RoundRobin, clock, [due(clock, "p", 1)])
    schedule = RefreshSchedule(lambda: {"p": pool}, HangingRefresher(clock), clock)  # type: ignore[arg-type]
    (member,) = pool
    for number in range(1, 6):
        account = member.account.with_token(replace(member.account.token, refresh_token=f"r{number}"))
        schedule.settle(member.key, Unavailable(detail="alone", account=account))
        assert member.failures == number
        assert member.account == account
