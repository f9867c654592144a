"""A refresh on a store whose holds end by themselves: what is not begun, what is given up, what is written yet."""

import asyncio
from random import Random

import pytest

from authpool.accounts.account import Account, Token
from authpool.clock import Clock
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.token_client import ANSWER_SECONDS, CONNECT_SECONDS
from authpool.oauth.verdict import Reply
from authpool.refresh.outcome import Outcome, Ready, Unavailable
from authpool.refresh.refresher import Refresher
from support.clock import FakeClock
from support.memory_store import MemoryStore, Tables
from support.rotating_provider import RotatingProvider
from support.transport import ALICE, INVALID_GRANT, Transport, no_discovery, pool_config, reply

POST_SECONDS = CONNECT_SECONDS + ANSWER_SECONDS


class Rig:
    """One account in memory, and a refresher whose holds last `claim_seconds`."""

    def __init__(self, clock: FakeClock, claim_seconds: float) -> None:
        self.clock = clock
        self.tables = Tables()
        self.provider = RotatingProvider(monotonic=clock.monotonic)
        self.transport = Transport(self.provider)
        self.transport.meanwhile = self._hang
        self.go, self.begun = asyncio.Event(), asyncio.Event()
        self.store = MemoryStore(self.tables, clock, claim_seconds=claim_seconds)
        self.operator = MemoryStore(self.tables, clock)
        self.refresher = refresher(self.store, self.transport, clock)

    async def add(self) -> Account:
        """Sign Alice in, with an access token that is over."""
        issued = self.provider.issue("alice")
        token = Token(access_token="old", refresh_token=issued["refresh_token"], expires_at=1)
        account = await self.operator.update(ALICE, lambda _: Account(pool="pool", name="alice", token=token))
        assert account is not None
        return account

    async def _hang(self) -> None:
        """The provider answers when `go` is set; `begun`: a POST is under way."""
        self.begun.set()
        await self.go.wait()

    def begin(self, account: Account) -> "asyncio.Task[Outcome]":
        return asyncio.ensure_future(self.refresher.refresh(account))


def refresher(store: MemoryStore, transport: Transport, clock: Clock) -> Refresher:
    return Refresher(
        store=store,
        endpoint=transport,
        resolver=EndpointResolver(no_discovery),
        pools=lambda: {"pool": pool_config()},
        clock=clock,
        rng=Random(0),
    )


@pytest.mark.parametrize(("claim_seconds", "posts"), ((POST_SECONDS - 0.5, 0), (POST_SECONDS, 1)))
async def test_no_post_is_begun_that_could_outlast_the_hold(claim_seconds: float, posts: int, clock: FakeClock) -> None:
    """Then nothing is written either: the token was not presented."""
    rig = Rig(clock, claim_seconds)
    account = await rig.add()
    rig.go.set()
    outcome = await rig.begin(account)
    assert len(rig.transport.posts) == posts
    assert isinstance(outcome, Ready if posts else Unavailable)
    assert (await rig.operator.read(ALICE)).pending_refresh is None
    assert posts or rig.tables.revisions[ALICE] == 1


async def test_asking_is_given_up_at_the_deadline(clock: FakeClock) -> None:
    """Its answer is lost, so the token may be spent: the intent stays, and nobody is disabled."""
    rig = Rig(clock, 20.0)
    account = await rig.add()
    flight = rig.begin(account)
    await rig.begun.wait()
    await clock.advance(20.5)
    outcome = await flight
    assert isinstance(outcome, Unavailable)
    stored = await rig.operator.read(ALICE)
    assert stored.pending() is not None
    assert stored.token == account.token
    assert not stored.disabled
    assert len(rig.transport.posts) == 1


async def test_a_pair_that_arrived_is_written_though_the_hold_was_lost(clock: FakeClock) -> None:
    """Somebody else has the account by then; the new pair is nowhere else."""
    rig = Rig(clock, 60.0)
    flight = rig.begin(await rig.add())
    await rig.begun.wait()
    rig.tables.claims[ALICE] = ("somebody else", 1e9)
    rig.go.set()
    outcome = await flight
    assert isinstance(outcome, Ready)
    stored = await rig.operator.read(ALICE)
    assert stored.token == outcome.account.token
    assert stored.pending_refresh is None
    assert rig.tables.claims[ALICE][0] == "somebody else"


@pytest.mark.parametrize("answer", (INVALID_GRANT, reply(400, {"error": "interaction_required"})))
async def test_no_verdict_is_written_once_the_hold_is_lost(answer: Reply, clock: FakeClock) -> None:
    """Whoever holds the account decides; it does not count for a storm either."""
    rig = Rig(clock, 60.0)
    account = await rig.add()
    rig.transport.script.append(answer)
    flight = rig.begin(account)
    await rig.begun.wait()
    intent = (await rig.operator.read(ALICE)).pending()
    rig.tables.claims[ALICE] = ("somebody else", 1e9)
    rig.go.set()
    outcome = await flight
    assert isinstance(outcome, Unavailable)
    assert outcome.cause == "store"
    stored = await rig.operator.read(ALICE)
    assert stored.pending() == intent
    assert not stored.disabled
    assert rig.tables.clients == {}
