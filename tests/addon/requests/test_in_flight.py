"""Idle means nobody in flight: whatever becomes of a request, its account is told that it is over."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import http

from authpool.accounts.account import Account, AccountKey, Token
from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import PoolConfig
from authpool.pool.pool import Pool
from authpool.proxy.addon import Gateway
from authpool.refresh.outcome import Ready
from authpool.requests.account_picker import AccountPicker
from authpool.requests.failover import Failover
from authpool.requests.limits import Limits
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.upstream_answer import UpstreamAnswer, usual_meaning
from authpool_least_in_flight import LeastInFlight
from support.answers import JSON, Cut, Echo, Hang, Nothing, Raw, Reset, Slow
from support.asked import pooled
from support.clock import FakeClock
from support.outage import MemoryStore
from support.pool_rig import Rig, client, reverse_gateway

# --- real gateways --------------------------------------------------------------------------------------------------


def pool_of(addon: Gateway) -> Pool:
    assert addon.service is not None
    return addon.service.snapshot.pools["p"]


def in_flight(pool: Pool) -> dict[Any, Any]:
    """Who is in flight, as the pool counts it, and as the rotation was told."""
    rotation: Any = pool._lanes.everyone.rotation
    return pool._lanes.in_flight or rotation.inner._in_flight


@asynccontextmanager
async def watched(rig: Rig, *addons: object, **options: Any) -> AsyncIterator[tuple[Any, httpx.AsyncClient, Gateway]]:
    """Run a gateway, and look at its pool when all requests are over."""
    addon = Gateway()
    async with reverse_gateway(rig, *addons, gateway=addon, **options) as gateway:
        async with client(gateway.url) as api:
            yield gateway, api, addon
        await gateway.wait_until(lambda: len(gateway.finished) >= len(gateway.flows))
        await gateway.wait_until(lambda: not addon._traffic._replacing)  # type: ignore[union-attr]
        assert in_flight(pool_of(addon)) == {}
        assert not addon._traffic._tickets  # type: ignore[union-attr]


async def give_up(request: Any) -> None:
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


@pytest.fixture
def home(rig: Rig) -> Callable[..., None]:
    return lambda *names, **more: rig.home(*names, rotation="least_in_flight", **more) and None


pytestmark = pytest.mark.mitmproxy


@pytest.mark.parametrize(
    "answer",
    (
        Echo(),
        JSON(401, {}),
        JSON(403, {}),
        JSON(429, {}),
        JSON(500, {}),
        JSON(401, {"page": "x" * 300_000}),
        Cut(200, {"a": "b" * 1000}),
        Cut(401, {"a": "b" * 1000}),
        Cut(429, {"a": "b" * 1000}),
        Reset(),
        Nothing(),
        Raw(b"HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\n"),
        Raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"),
    ),
    ids=lambda answer: repr(answer)[:40],
)
@pytest.mark.parametrize("streamed", (False, True), ids=("held", "streamed"))
async def test_every_answer_ends_it(rig: Rig, home: Any, answer: Any, *, streamed: bool) -> None:
    """Served, refused, cut off, broken off, upgraded; the request held or streamed."""
    home("a", "b")
    rig.upstream.respond = lambda _request: answer
    async with watched(rig, **({"stream_large_bodies": "1k"} if streamed else {})) as (_gateway, api, _addon):
        for _ in range(3):
            with suppress(httpx.HTTPError):
                await api.post("/x", content=b"x" * 5000, headers=_UPGRADE if isinstance(answer, Raw) else {})


_UPGRADE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize("reload", (False, True))
async def test_a_streamed_request_that_is_refused_lets_go_for_good(rig: Rig, home: Any, *, reload: bool) -> None:
    """Its account is refreshed in the background, and gets no request by that; not even over a reload."""
    home("a")
    rig.provider.expire("a")
    gate = asyncio.Event()
    rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
    async with watched(rig, stream_large_bodies="1k") as (gateway, api, addon):
        asked = asyncio.create_task(api.post("/x", content=b"x" * 5000))
        await gateway.wait_until(lambda: rig.posts == 1)
        assert in_flight(pool_of(addon)) == {}
        if reload:
            await addon.service.reload()
        gate.set()
        assert (await asked).status_code == 401
        assert in_flight(pool_of(addon)) == {}
        assert (await api.post("/x", content=b"x" * 5000)).status_code == 200


async def test_a_client_that_leaves_ends_it(rig: Rig, home: Any) -> None:
    """While the upstream is silent, and while a refresh is under way."""
    home("a", "b")
    rig.upstream.respond = lambda _request: Hang()
    async with watched(rig) as (gateway, api, addon):
        leaves = [asyncio.create_task(api.get("/x")) for _ in range(4)]
        await rig.upstream.wait_for_requests(4)
        assert len(in_flight(pool_of(addon))) == 2
        await asyncio.gather(*(give_up(one) for one in leaves))
        await gateway.wait_until(lambda: in_flight(pool_of(addon)) == {})
        for name in ("a", "b"):
            rig.provider.expire(name)
        gate = asyncio.Event()
        rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
        leaves = [asyncio.create_task(api.get("/x")) for _ in range(4)]
        await gateway.wait_until(lambda: rig.posts == 2)
        await asyncio.gather(*(give_up(one) for one in leaves))
        gate.set()


class _Kills:
    """Kills each flow at one of its events."""

    def __init__(self, event: str) -> None:
        setattr(self, event, lambda flow: flow.kill())


@pytest.mark.parametrize("event", ("requestheaders", "request", "responseheaders", "response"))
async def test_a_flow_that_is_killed_ends_it(rig: Rig, home: Any, event: str) -> None:
    """By a person or another addon, at any time."""
    home("a")
    async with watched(rig, _Kills(event)) as (_gateway, api, _addon):
        with suppress(httpx.HTTPError):
            await api.post("/x", content=b"x")


async def test_a_reload_in_between_carries_the_count_over_and_it_ends(rig: Rig, home: Any) -> None:
    """What began in the old pool ends in the new one; and an account that was away meanwhile starts from nothing."""
    home("a", "b")
    gate = asyncio.Event()
    rig.upstream.respond = lambda _request: Slow(gate, Echo())
    async with watched(rig) as (gateway, api, addon):
        asked = [asyncio.create_task(api.get("/x")) for _ in range(4)]
        await rig.upstream.wait_for_requests(4)
        await addon.service.reload()
        assert len(in_flight(pool_of(addon))) == 2
        document = rig.account("a")
        await addon.service.store.update(AccountKey.of("p", "a"), lambda _account: None)
        await gateway.wait_until(lambda: len(pool_of(addon)) == 1)
        rig.write("a", **document)
        await gateway.wait_until(lambda: len(pool_of(addon)) == 2)
        more = [asyncio.create_task(api.get("/y")) for _ in range(2)]
        await rig.upstream.wait_for_requests(6)
        gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked, *more)} == {200}


async def test_a_refusal_holds_nobody(rig: Rig, home: Any) -> None:
    """Nobody could serve, or only at the last moment nobody could."""

    class Pauses:
        async def request(self, flow: http.HTTPFlow) -> None:
            rig.write("a", **rig.account("a") | {"proxy_disabled": True})
            await addon.service.catch_up()

    home("a")
    async with watched(rig, Pauses()) as (_gateway, api, addon):
        answers = [await api.get("/x") for _ in range(2)]
        assert {answer.status_code for answer in answers} == {503}


# --- a request's parts, in any order --------------------------------------------------------------------------------

_KEYS = [AccountKey.of("p", name) for name in ("a", "b")]
_CONFIG = PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),))
_STEPS = ("acquire", "send", "ok", "bad_token", "cooldown", "release", "replace", "reload", "remove", "add", "later")


class _Refresher:
    """Gives a new token each time, after a turn of the loop."""

    def __init__(self) -> None:
        self.count = 0

    async def refresh(self, account: Account, **_how: Any) -> Ready:
        await asyncio.sleep(0)
        self.count += 1
        return Ready(account=account.with_token(_token(self.count)), posted=True)

    def fault(self, _pool: str) -> None:
        return None


def _token(number: int) -> Token:
    return Token(access_token=f"t{number}", refresh_token=f"r{number}")


class _World:
    """A picker and a failover with everything around them that a request meets."""

    def __init__(self) -> None:
        self.clock = FakeClock(now=time.time())
        self.records = {key: Account(pool="p", name=key.name, token=_token(0)) for key in _KEYS}
        self.pool = self._pool()
        self.refresher: Any = _Refresher()
        self.picker = AccountPicker(lambda: {"p": self.pool}, self.refresher, self.clock)
        self.limits = Limits(MemoryStore(list(self.records.values())), self.clock, lambda event: None)
        self.failover = Failover(lambda: {"p": self.pool}, self.picker, self.refresher, self.limits, self.clock)
        self.pooled_requests = [pooled() for _ in range(4)]
        self.refused: list[Any] = []

    def _pool(self) -> Pool:
        return Pool(_CONFIG, LeastInFlight, self.clock, self.records.values())

    async def play(self, step: str, number: int) -> None:  # noqa: C901 - one each
        taken, key = self.pooled_requests[number], _KEYS[number % 2]
        match step:
            case "acquire":
                await self.picker.acquire(taken)
            case "send" if self.picker.current(taken) is not None:
                self.picker.sent(taken)
                self.refused.append(taken.refused_token())
            case "ok":
                self.failover.heard(taken, UpstreamAnswer(status=200, header=lambda _name: None), "ok")
            case "bad_token" | "cooldown":
                answer = UpstreamAnswer(status=401 if step == "bad_token" else 429, header=lambda _name: None)
                self.failover.heard(taken, answer, usual_meaning(answer))
                await self.failover.decide(taken, usual_meaning(answer), resend=bool(number % 3))
            case "release":
                self.picker.release(taken)
            case "replace" if self.refused and self.refused[-1] is not None:
                await self.failover.replace(self.refused[-1])
            case "reload":
                former, self.pool = self.pool, self._pool()
                self.pool.inherit(former)
            case "remove":
                self.pool.remove(key)
            case "add":
                self.pool.put(self.records[key])
            case "later":
                self.clock.jump(2)

    def check(self) -> None:
        """Nobody else is in flight than who holds an account; and a closed request holds none."""
        for key, holders in self.pool._lanes.in_flight.items():
            assert holders
            assert all(holder.held == key for holder in holders if isinstance(holder, PooledRequest))
        assert not any(one.held for one in self.pooled_requests if one.closed)
        counted = {key: len(holders) for key, holders in self.pool._lanes.in_flight.items()}
        rotation: Any = self.pool._lanes.everyone.rotation
        assert rotation._in_flight == counted


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(_STEPS), st.integers(0, 3)), max_size=40))
def test_idle_means_nobody_in_flight(steps: list[tuple[str, int]]) -> None:
    """After any history, in any order, also of what comes after its end: once all are over nobody is in flight."""

    async def run() -> None:
        world = _World()
        for step, number in steps:
            await world.play(step, number)
            world.check()
        for one in world.pooled_requests:
            world.picker.release(one)
            await world.picker.acquire(one)  # over is over
            world.picker.take(one, world.records[_KEYS[0]])
        world.check()
        assert world.pool._lanes.in_flight == {}
        assert not any(one.access_token for one in world.pooled_requests)
        await world.limits.aclose()

    asyncio.run(run())
