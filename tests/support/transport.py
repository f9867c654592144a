"""A token endpoint without sockets, and a Refresher on a real folder that asks it."""

import asyncio
import inspect
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from authpool.accounts.account import Account, AccountKey, Token
from authpool.accounts.events import AccountEvent
from authpool.config.pool_config import PoolConfig
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.token_client import TokenEndpoint
from authpool.oauth.verdict import Answer, Reply, ReplyLost
from authpool.refresh.outcome import Outcome
from authpool.refresh.refresher import Refresher
from authpool.store.folder.account_file import parse_account
from authpool.store.folder.store import FolderStore
from support.answers import JSON
from support.clock import FakeClock
from support.crashing_process import inline, no_discovery
from support.file_operations import InterruptedFiles
from support.rotating_provider import RotatingProvider
from support.world import pool_config

ALICE = AccountKey.of("pool", "alice")
LOST = ReplyLost(detail="the answer did not arrive")


def reply(status: int, body: object = b"", retry_after: str | None = None) -> Reply:
    """An answer of the token endpoint; what is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status=status, body=data, retry_after=retry_after)


INVALID_GRANT = reply(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One POST as it was sent."""

    url: str
    form: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class Transport:
    """Answers with `script` first, then as `provider` does; `meanwhile` happens while a POST is under way.

    An entry of the script may be an answer, or a function of the form that returns one.
    """

    def __init__(self, provider: RotatingProvider) -> None:
        self.provider = provider
        self.posts: list[Post] = []
        self.script: deque[Answer | Callable[[Mapping[str, str]], Answer]] = deque()
        self.meanwhile: Callable[[], object | Awaitable[object]] | None = None

    @property
    def presented(self) -> list[str]:
        """The refresh tokens in the order in which they came."""
        return [post.form["refresh_token"] for post in self.posts]

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        self.posts.append(Post(url=url, form=form, headers=headers))
        if self.meanwhile is not None and inspect.isawaitable(doing := self.meanwhile()):
            await doing
        if not self.script:
            return self.handle(form)
        answer = self.script.popleft()
        return answer(form) if callable(answer) else answer

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        raise NotImplementedError

    def handle(self, form: Mapping[str, str]) -> Answer:
        """What the provider does and says."""
        answer = self.provider(0, dict(form))
        assert isinstance(answer, JSON)
        return reply(answer.status, answer.body)

    def handle_and_lose(self, form: Mapping[str, str]) -> Answer:
        """The provider does what it is asked for, and its answer never arrives."""
        self.handle(form)
        return LOST


class Failing:
    """Makes each write fail while `error` is set, but for the next `left`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.left = 0

    def files(self, step: str = "create") -> InterruptedFiles:
        return InterruptedFiles(step, self._interrupt)

    def _interrupt(self) -> None:
        if self.error is None:
            return
        if self.left == 0:
            raise self.error
        self.left -= 1


class Rig:
    """A folder of accounts of the pool ``pool``, and Refreshers on it."""

    def __init__(self, folder: Path, clock: FakeClock, provider: RotatingProvider | None = None) -> None:
        self.folder = folder
        self.clock = clock
        self.provider = provider or RotatingProvider(monotonic=clock.monotonic)
        self.transport = Transport(self.provider)
        self.pools: dict[str, PoolConfig] = {"pool": pool_config()}
        self.events: list[AccountEvent] = []
        self.settled: list[tuple[AccountKey, Outcome]] = []
        self.failing = Failing()
        self.operator = FolderStore(folder, run=inline)
        self.store = FolderStore(folder, run=inline, files=self.failing.files(), sleep=clock.sleep)
        self.refresher = self.process(self.store)

    def process(
        self,
        store: FolderStore | None = None,
        *,
        endpoint: TokenEndpoint | None = None,
        resolver: EndpointResolver | None = None,
    ) -> Refresher:
        """A Refresher as another process would have it."""
        return Refresher(
            store=store or FolderStore(self.folder, run=inline, sleep=self.clock.sleep),
            endpoint=endpoint or self.transport,
            resolver=resolver or EndpointResolver(no_discovery),
            pools=lambda: self.pools,
            clock=self.clock,
            notify=self.events.append,
            settled=lambda key, outcome: self.settled.append((key, outcome)),
            rng=Random(0),
        )

    async def add(self, name: str = "alice", **fields: Any) -> Account:
        """Sign an account in, with an access token that has expired; or add it anew."""
        issued = self.provider.issue(name)
        token = Token(
            access_token=issued["access_token"],
            refresh_token=issued["refresh_token"],
            expires_at=int(self.clock.time()) - 1,
        )
        return await self.put(Account(**{"pool": "pool", "name": name, "token": token, **fields}))

    async def put(self, account: Account) -> Account:
        """Write an account as it is, by hand."""
        stored = await self.operator.update(account.key, lambda _: account)
        assert stored is not None
        return stored

    def forced(self, account: Account) -> "asyncio.Task[Outcome]":
        """Begin a refresh as an operator asks for it."""
        return asyncio.ensure_future(self.refresher.refresh(account, force=True))

    def stored(self, name: str = "alice") -> Account:
        return parse_account("pool", name, (self.folder / "pool" / f"{name}.toml").read_bytes())
