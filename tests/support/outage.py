"""A token endpoint that goes down for a while under hundreds of accounts, played in virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Literal

from authpool.accounts.account import Account, AccountKey, Token
from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import ClientConfig, PoolConfig
from authpool.errors import UnknownAccountError
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.verdict import Answer, NotSent, Reply, ReplyLost
from authpool.pool.pool import Pool
from authpool.refresh.refresher import Refresher
from authpool.refresh.schedule import RefreshSchedule
from authpool.requests.account_picker import AccountPicker
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.refusals import Refusal
from authpool.rotation.rotation import RotationRequest
from authpool.store import Change, ClientChange, Hold, Record, StandingChange
from authpool.store.audit import Entry
from authpool.store.client_record import ClientRecord
from authpool.store.folder.folder_hold import FolderHold
from authpool_round_robin import RoundRobin
from support.virtual_time import VirtualClock, VirtualTimeLoop

TOKEN_URL = "https://auth.example.com/token"
LIFETIME_SECONDS = 3600
BEGIN_SECONDS, END_SECONDS, STOP_SECONDS = 60.0, 660.0, 780.0
"""When the endpoint goes down, when it is back, and when the play ends."""

type Failure = Literal["refused", "silent", "unavailable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request: when it came, how long it waited, and what it was refused with; times in seconds."""

    pool: str
    at: float
    waited: float
    refusal: Refusal | None
    live: bool
    """Whether an account of its pool had a live access token from its beginning to its end."""


class MemoryStore:
    """Accounts that live as long as the play: the store's contract without its disk."""

    def __init__(self, accounts: Collection[Account]) -> None:
        self._accounts = {account.key: account for account in accounts}
        self._locks: dict[AccountKey, asyncio.Lock] = {}
        self._clients: dict[str, ClientRecord] = {}
        self._trail: list[Entry] = []
        self._reload = 0

    async def load(self, pools: Collection[str]) -> Mapping[AccountKey, Record]:
        return {key: account for key, account in self._accounts.items() if key.pool in pools}

    async def changes(self) -> Mapping[AccountKey, Record | None]:
        return {}

    async def wait_for_changes(self) -> None:
        await asyncio.sleep(0.5)

    async def aclose(self) -> None:
        """Nothing to end."""

    async def read(self, key: AccountKey) -> Account:
        if key not in self._accounts:
            raise UnknownAccountError(f"there is no account {key}")
        return self._accounts[key]

    async def open(self) -> None:
        """Nothing to begin."""

    @asynccontextmanager
    async def hold(self, key: AccountKey) -> AsyncIterator[Hold]:
        async with self._locks.setdefault(key, asyncio.Lock()):
            yield FolderHold(key, partial(self.read, key), partial(self.update, key), asyncio.sleep)

    async def update_standing(self, key: AccountKey, change: StandingChange) -> Account | None:
        return await self.update(key, lambda account: account and account.with_standing(change(account.standing)))

    async def update(self, key: AccountKey, change: Change, *, replace_broken: bool = False) -> Account | None:
        changed = change(self._accounts.get(key))
        if changed is None:
            self._accounts.pop(key, None)
        else:
            self._accounts[key] = changed
        return changed

    async def read_client(self, client: str) -> ClientRecord | None:
        return self._clients.get(client)

    async def clients(self) -> Mapping[str, ClientRecord]:
        return self._clients

    async def update_client(self, client: str, change: ClientChange) -> ClientRecord:
        self._clients[client] = change(self._clients.get(client))
        return self._clients[client]

    def append(self, entry: Entry) -> None:
        self._trail.append(entry)

    async def entries(self, newest: int | None = None) -> list[Entry]:
        return self._trail if newest is None else self._trail[-newest:]

    async def entries_since(self, position: object) -> tuple[list[Entry], object]:
        return self._trail[position if isinstance(position, int) else 0 :], len(self._trail)

    async def request_reload(self) -> int:
        self._reload += 1
        return self._reload

    async def reload_request(self) -> int:
        return self._reload


class FailingEndpoint:
    """Rotates tokens, but while it is down it refuses connections, is silent, or answers 503 with a Retry-After."""

    def __init__(self, loop: asyncio.AbstractEventLoop, failure: Failure, rng: Random) -> None:
        self._loop = loop
        self._failure = failure
        self._rng = rng
        self.posts: list[float] = []
        self.granted: list[float] = []
        self.under_way = 0
        self.most_under_way = 0

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        self.posts.append(self._loop.time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            down = BEGIN_SECONDS <= self._loop.time() < END_SECONDS
            return await (self._fail() if down else self._grant(form))
        finally:
            self.under_way -= 1

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        raise AssertionError("nobody has to discover anything")

    async def _fail(self) -> Answer:
        match self._failure:
            case "refused":
                await asyncio.sleep(0.01)
                return NotSent(detail="no connection")
            case "silent":
                await asyncio.sleep(8)
                return ReplyLost(detail="the answer did not arrive")
            case "unavailable":
                await asyncio.sleep(0.1)
                return Reply(status=503, body=b"<html>", retry_after="20")

    async def _grant(self, form: Mapping[str, str]) -> Answer:
        await asyncio.sleep(self._rng.uniform(0.05, 0.25))
        self.granted.append(self._loop.time())
        number = len(self.granted)
        token = {"access_token": f"access-{number}", "refresh_token": f"refresh-{number}", "token_type": "Bearer"}
        return Reply(status=200, body=json.dumps(token | {"expires_in": LIFETIME_SECONDS}).encode())


@dataclass
class Outage:
    """Two pools of one endpoint, and requests to both in turn; after `play`, what happened is here.

    All tokens of `early` end during the outage, those of `late` until five minutes after it.
    """

    failure: Failure
    accounts: int = 500
    requests_per_second: float = 2.0
    seed: int = 1
    served: list[Served] = field(default_factory=list)
    refreshed: dict[AccountKey, float] = field(default_factory=dict)
    """When each account was first refreshed after the endpoint's return, in seconds of the play."""
    waiting: set[AccountKey] = field(default_factory=set)
    """Whose refresh was due, and had not been done, when the endpoint came back."""

    def play(self) -> FailingEndpoint:
        loop = VirtualTimeLoop()
        try:
            return loop.run_until_complete(self._play(loop))
        finally:
            loop.close()

    async def _play(self, loop: asyncio.AbstractEventLoop) -> FailingEndpoint:
        rng = Random(self.seed)
        self._loop, self._clock = loop, VirtualClock(loop)
        endpoint = FailingEndpoint(loop, self.failure, rng)
        accounts = [self._account(number, rng) for number in range(self.accounts)]
        configs = {name: _pool_config(name) for name in ("early", "late")}
        self._pools = {
            name: Pool(config, RoundRobin, self._clock, [a for a in accounts if a.pool == name])
            for name, config in configs.items()
        }
        for pool in self._pools.values():
            for member in pool:
                member.advisory_seconds, member.mandatory_seconds = 300.0, 30.0
        refresher = Refresher(
            store=MemoryStore(accounts),
            endpoint=endpoint,
            resolver=EndpointResolver(_no_discovery),
            pools=lambda: configs,
            clock=self._clock,
            settled=lambda key, outcome: schedule.settle(key, outcome),  # noqa: PLW0108 - it is made below
            rng=rng,
        )
        schedule = RefreshSchedule(lambda: self._pools, refresher, self._clock, rng)
        for pool in self._pools.values():
            for member in pool:
                schedule.plan(member)
        picker = AccountPicker(lambda: self._pools, refresher, self._clock)
        tasks = [asyncio.create_task(schedule.run()), asyncio.create_task(self._watch())]
        requests = await self._come(picker)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*requests)
        await refresher.aclose()
        return endpoint

    def _account(self, number: int, rng: Random) -> Account:
        """Tokens whose refresh comes due during the outage."""
        early = number % 2 == 0
        expires_at = rng.uniform(440, 600) if early else rng.uniform(440, 960)
        token = Token(
            access_token=f"first-{number}",
            refresh_token=f"grant-{number}",
            expires_at=int(self._clock.time() + expires_at),
        )
        return Account(pool="early" if early else "late", name=f"account-{number}", token=token)

    async def _come(self, picker: AccountPicker) -> "list[asyncio.Task[None]]":
        requests = []
        number = 0
        while self._loop.time() < STOP_SECONDS:
            pool = ("early", "late")[number % 2]
            requests.append(asyncio.create_task(self._request(picker, pool)))
            number += 1
            await asyncio.sleep(1 / self.requests_per_second)
        return requests

    async def _request(self, picker: AccountPicker, pool: str) -> None:
        request = RotationRequest(method="GET", host="api.example.com", path="/")
        pooled = PooledRequest(pool=pool, rotation="round_robin", request=request, max_accounts=3)
        came, live = self._loop.time(), self._live(pool)
        await picker.acquire(pooled)
        waited = self._loop.time() - came
        served = Served(pool=pool, at=came, waited=waited, refusal=pooled.refusal, live=bool(live & self._live(pool)))
        self.served.append(served)

    def _live(self, pool: str) -> set[AccountKey]:
        now = self._clock.time()
        return {member.key for member in self._pools[pool] if member.account.token.live(now)}

    async def _watch(self) -> None:
        await asyncio.sleep(END_SECONDS)
        back = self._clock.time()
        members = [member for pool in self._pools.values() for member in pool]
        before = {member.key: member.account.token for member in members}
        self.waiting = {key for key, token in before.items() if (token.expires_at or 0) < back + 300}
        while True:
            await asyncio.sleep(0.1)
            for member in members:
                if member.key not in self.refreshed and member.account.token != before[member.key]:
                    self.refreshed[member.key] = self._loop.time()


def _pool_config(name: str) -> PoolConfig:
    return PoolConfig(
        name=name,
        hosts=(HostPattern.parse(f"{name}.example.com"),),
        token_url=TOKEN_URL,
        client=ClientConfig(client_id=name, client_secret="s", client_auth="client_secret_post"),
    )


async def _no_discovery(url: str) -> tuple[int, bytes]:
    raise OSError(url)
