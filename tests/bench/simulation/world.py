"""One play: the product's own pool, picker and failover before an API that is not there, in virtual time.

Requests take the way that `authpool.proxy.traffic` takes with them; cooldowns, probes, quotas, refreshes, verdicts on
dead grants and `max_accounts` are the product's. Only mitmproxy, the network and the disk are missing.
"""

import asyncio
import logging
from collections.abc import Collection
from random import Random
from time import perf_counter_ns

from authpool.accounts.account import Account, AccountKey
from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import ClientConfig, PoolConfig
from authpool.oauth.discovery import EndpointResolver
from authpool.pool.lanes import ALL
from authpool.pool.pool import Member, Pool
from authpool.refresh.refresher import Refresher
from authpool.refresh.schedule import RefreshSchedule
from authpool.requests.account_picker import AccountPicker
from authpool.requests.failover import Decision, Failover
from authpool.requests.limits import Limits
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.upstream_answer import usual_meaning
from authpool.rotation.rotation import RotationRequest
from support.outage import MemoryStore  # type: ignore[import-not-found]
from support.virtual_time import VirtualClock, VirtualTimeLoop  # type: ignore[import-not-found]

from .api import LIFETIME_SECONDS, Api
from .figures import Tally
from .plan import Arrival, Plan
from .rotations import account_name, factory, options

POOL = "p"
MAX_ACCOUNTS = 3
"""The default of `[gateway] max_accounts`."""
TOKEN_URL = "https://auth.example.com/token"


class TimedPool(Pool):
    """Notes how long each choice takes, in nanoseconds of wall time."""

    choice_ns: list[int]

    def choose(self, request: RotationRequest, tried: Collection[AccountKey] = (), lane: str = ALL) -> Member | None:
        began = perf_counter_ns()
        member = super().choose(request, tried, lane)
        self.choice_ns.append(perf_counter_ns() - began)
        return member


class World:
    """One rotation in one plan; `play` it once."""

    def __init__(self, plan: Plan, rotation: str) -> None:
        self._plan = plan
        self._rotation = rotation
        self._upstreams = plan.upstreams()
        self._tally = Tally()
        self._last: dict[int, AccountKey] = {}
        """Which account served a session last."""

    def play(self) -> Tally:
        level = logging.root.manager.disable
        logging.disable()  # thousands of lines about cooldowns
        loop = VirtualTimeLoop()
        loop.set_task_factory(asyncio.eager_task_factory)  # one turn of the loop less for each request
        try:
            loop.run_until_complete(self._play(loop))
        finally:
            loop.close()
            logging.disable(level)
        begin, end = self._plan.warm_up_seconds, self._plan.seconds
        alive = {number: one.alive_seconds(begin, end) for number, one in enumerate(self._upstreams)}
        self._tally.limits = {
            number: self._upstreams[number].rate * seconds
            for number, seconds in alive.items()
            if seconds >= (end - begin) / 2
        }
        return self._tally

    async def _play(self, loop: asyncio.AbstractEventLoop) -> None:
        self._build(loop)
        for member in self._pool:
            self._schedule.plan(member)
        tasks = [asyncio.create_task(self._schedule.run()), asyncio.create_task(self._readd())]
        requests: set[asyncio.Task[None]] = set()
        for arrival in self._plan.arrivals(self._upstreams):
            await asyncio.sleep(arrival.at - loop.time())
            task = asyncio.create_task(self._request(arrival))
            requests.add(task)
            task.add_done_callback(requests.discard)
        while requests:
            await asyncio.gather(*requests)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._refresher.aclose()
        await self._limits.aclose()

    def _build(self, loop: asyncio.AbstractEventLoop) -> None:
        """Put the parts together as `authpool.gateway.service` does."""
        rng = Random(self._plan.seed)
        self._loop, self._clock = loop, VirtualClock(loop)
        self._api = Api(self._upstreams, loop.time)
        config = PoolConfig(
            name=POOL,
            hosts=(HostPattern.parse("api.example.com"),),
            token_url=TOKEN_URL,
            client=ClientConfig(client_id="gateway", client_secret="s", client_auth="client_secret_post"),
            rotation=self._rotation,
            rotation_options=options(self._rotation, self._upstreams),
        )
        accounts = [self._account(number, rng) for number in range(self._plan.accounts)]
        self._store = MemoryStore(accounts)
        self._pool = TimedPool(config, factory(config, self._clock, self._plan.seed), self._clock, accounts, rng)
        self._pool.choice_ns = self._tally.choice_ns
        pools = {POOL: self._pool}
        self._refresher = Refresher(
            store=self._store,
            endpoint=self._api,
            resolver=EndpointResolver(_no_discovery),
            pools=lambda: {POOL: config},
            clock=self._clock,
            settled=lambda key, outcome: self._schedule.settle(key, outcome),  # noqa: PLW0108 - it is made below
            rng=rng,
        )
        self._schedule = RefreshSchedule(lambda: pools, self._refresher, self._clock, rng)
        self._limits = Limits(self._store, self._clock, lambda event: None)
        self._picker = AccountPicker(lambda: pools, self._refresher, self._clock)
        self._failover = Failover(lambda: pools, self._picker, self._refresher, self._limits, self._clock)

    def _account(self, number: int, rng: Random) -> Account:
        """Sign one in, some time ago; a dead one has been found out already."""
        now = self._clock.time()
        token = self._api.grant(number, now + rng.uniform(LIFETIME_SECONDS / 3, LIFETIME_SECONDS))
        account = Account(pool=POOL, name=account_name(number), token=token)
        return account.with_disabled("invalid_grant", now) if self._upstreams[number].dead(0.0) else account

    async def _readd(self) -> None:
        """Put a new grant in where the dead one was, as an operator does, whenever a plan says so."""
        returns = sorted((at, n) for n, one in enumerate(self._upstreams) for at in one.deaths if not one.dead(at))
        for at, number in returns:
            await asyncio.sleep(at - self._loop.time())
            token = self._api.grant(number, self._clock.time() + LIFETIME_SECONDS)
            key = AccountKey.of(POOL, account_name(number))
            self._pool.put(
                await self._store.update(key, lambda account, token=token: account.with_token(token).with_enabled())
            )
            member = self._pool.get(key)
            if member is not None:
                self._schedule.plan(member)

    async def _request(self, arrival: Arrival) -> None:
        client = f"10.{arrival.session >> 16}.{arrival.session >> 8 & 255}.{arrival.session & 255}"
        request = RotationRequest(method="GET", host="api.example.com", path="/", client=client)
        pooled = PooledRequest(pool=POOL, rotation=self._rotation, request=request, max_accounts=MAX_ACCOUNTS)
        came, counts = self._loop.time(), arrival.at >= self._plan.warm_up_seconds
        await self._picker.acquire(pooled)
        status = await self._send(pooled, arrival, counts=counts)
        served_by = pooled.key
        self._picker.release(pooled)
        if counts:
            self._count(arrival.session, status, served_by, self._loop.time() - came)
        if status == 200 and served_by is not None:
            self._last[arrival.session] = served_by

    async def _send(self, pooled: PooledRequest, arrival: Arrival, *, counts: bool) -> int:
        """Send it on as many accounts as may be, and answer the status that the client sees."""
        while pooled.refusal is None:
            token = self._picker.current(pooled)
            if token is None or pooled.key is None:
                return self._picker.refuse(pooled).status
            self._picker.sent(pooled)
            if counts:
                self._tally.sent[_number(pooled.key)] += 1
            given = self._api.ask(token, arrival.latency_seconds)
            await asyncio.sleep(given.seconds)
            meaning = usual_meaning(given.answer)
            self._failover.heard(pooled, given.answer, meaning)
            decision = await self._failover.decide(pooled, meaning, resend=True)
            if decision is Decision.PASS_ON and pooled.refusal is None:
                return given.answer.status
        return pooled.refusal.status

    def _count(self, session: int, status: int, served_by: AccountKey | None, seconds: float) -> None:
        tally = self._tally
        tally.statuses[status] += 1
        if status != 200 or served_by is None:
            return
        tally.served[_number(served_by)] += 1
        tally.waits.append(seconds)
        last = self._last.get(session)
        tally.followers += last is not None
        tally.hits += last == served_by


def _number(key: AccountKey) -> int:
    return int(key.name.rpartition("-")[2])


async def _no_discovery(url: str) -> tuple[int, bytes]:
    raise OSError(url)
