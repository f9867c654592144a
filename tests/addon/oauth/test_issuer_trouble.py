"""An issuer that does not answer: it is told at once, asked ever more seldom, and nobody waits for it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from authpool.config import PoolConfig
from authpool.oauth.discovery import PAUSE_SECONDS, DiscoveryError, EndpointResolver
from authpool.oauth.verdict import Answer, NotSent, Reply
from authpool.refresh.outcome import Misconfigured, Ready, Unavailable
from support.clock import FakeClock
from support.home import make_home, token_table, write_account
from support.idle_gateway import idle_gateway
from support.rotating_provider import RotatingProvider
from support.transport import Rig, Transport
from support.world import pool_config

ISSUER = "https://op.test"
METADATA = {"issuer": ISSUER, "token_endpoint": "https://op.test/token"}
SHORTEST, LONGEST = PAUSE_SECONDS


@dataclass(kw_only=True)
class Issuer:
    """Fetches its metadata while it is `up`; else nobody answers, or the `answer` comes. `gate` holds questions up."""

    clock: FakeClock
    up: bool = False
    answer: tuple[int, bytes] | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    async def fetch(self, url: str) -> tuple[int, bytes]:
        self.asked.append(self.clock.monotonic())
        await self.gate.wait()
        if self.answer is not None:
            return self.answer
        if not self.up:
            raise OSError("connection refused")
        return 200, json.dumps(METADATA).encode()


@pytest.fixture
def issuer(clock: FakeClock) -> Issuer:
    """One that is down."""
    return Issuer(clock=clock)


@pytest.fixture
async def resolver(issuer: Issuer, clock: FakeClock) -> AsyncIterator[EndpointResolver]:
    resolver = EndpointResolver(issuer.fetch, clock, Random(1))
    yield resolver
    issuer.gate.set()
    await resolver.aclose()


def pool(name: str = "p") -> PoolConfig:
    return replace(pool_config(), name=name, issuer=ISSUER, token_url=None)


async def fail(resolver: EndpointResolver, patience: str = "probe") -> DiscoveryError:
    with pytest.raises(DiscoveryError) as caught:
        await resolver.resolve(pool(), patience)  # type: ignore[arg-type]
    return caught.value


async def test_pauses_grow_with_jitter_and_end_with_an_answer(
    issuer: Issuer, resolver: EndpointResolver, clock: FakeClock
) -> None:
    """However many come: one question a pause, as with a token endpoint that is down."""
    for _ in range(600):
        await fail(resolver)
        await fail(resolver, "request")
        await clock.advance(0.25)
    gaps = [later - earlier for earlier, later in zip(issuer.asked, issuer.asked[1:], strict=False)]
    assert gaps[0] <= SHORTEST + 0.25
    assert all(gap <= LONGEST + 0.25 for gap in gaps)
    assert all(gap >= LONGEST / 2 for gap in gaps[5:])
    assert len(set(gaps[5:])) > 1
    assert len(issuer.asked) <= 150 / (LONGEST / 2) + 5
    issuer.up = True
    await clock.advance(LONGEST)
    assert (await resolver.resolve(pool(), "probe")).token_url == METADATA["token_endpoint"]
    assert (await resolver.resolve(pool(), "request")).token_url == METADATA["token_endpoint"]


async def test_who_may_not_ask_is_answered_at_once(issuer: Issuer, resolver: EndpointResolver) -> None:
    """With what went wrong last time, and when it is worth coming again; also while somebody is asking."""
    assert (await fail(resolver)).retry_after_seconds is None
    error = await fail(resolver)
    assert error.transient
    assert error.retry_after_seconds is not None
    assert error.retry_after_seconds >= SHORTEST
    assert "connection refused" in str(error)
    issuer.gate.clear()
    operator = asyncio.ensure_future(fail(resolver, "force"))
    await issuer.clock.settle()
    await issuer.clock.advance(LONGEST)
    for patience in ("request", "probe"):
        async with asyncio.timeout(5):
            await fail(resolver, patience)
    assert len(issuer.asked) == 2
    issuer.gate.set()
    await operator


async def test_force_asks_at_any_time(issuer: Issuer, resolver: EndpointResolver) -> None:
    """An operator who adds an account or refreshes one knows why."""
    await fail(resolver)
    issuer.up = True
    assert (await resolver.resolve(pool())).token_url == METADATA["token_endpoint"]


async def test_a_new_configuration_begins_anew(issuer: Issuer, resolver: EndpointResolver) -> None:
    """What failed before a reload is asked after it."""
    await fail(resolver)
    resolver.forget()
    await fail(resolver)
    assert len(issuer.asked) == 2


async def test_it_is_told_once_and_once_when_it_is_over(
    issuer: Issuer, resolver: EndpointResolver, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked ahead, it is told before the first refresh: its URL, what is wrong, and where it is configured."""
    static = replace(pool("other"), token_url="https://op.test/token")
    resolver.ask_ahead([pool(), pool("q"), static])
    await issuer.clock.settle()
    assert len(issuer.asked) == 1
    assert f"issuer {ISSUER} does not answer at {ISSUER}/.well-known/openid-configuration" in caplog.text
    assert "See authpool.toml: pools.p.issuer, pools.q.issuer" in caplog.text
    assert "pools.other" not in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    await issuer.clock.advance(LONGEST)
    await fail(resolver)
    assert caplog.text.count("does not answer") == 1
    issuer.up = True
    await issuer.clock.advance(LONGEST)
    await resolver.resolve(pool(), "probe")
    assert caplog.text.count(f"Issuer {ISSUER} answers now") == 1


async def test_a_wrong_issuer_is_told_ahead_as_well(
    issuer: Issuer, resolver: EndpointResolver, caplog: pytest.LogCaptureFixture
) -> None:
    """A page where the metadata should be."""
    issuer.answer = (200, b"<html>")
    resolver.ask_ahead([pool()])
    await issuer.clock.settle()
    assert "answers no JSON object" in caplog.text
    assert "pools.p.issuer" in caplog.text


async def test_nobody_is_asked_ahead_for_what_is_known(issuer: Issuer, resolver: EndpointResolver) -> None:
    """Nor twice at a time."""
    issuer.up = True
    resolver.ask_ahead([pool()])
    resolver.ask_ahead([pool()])
    await issuer.clock.settle()
    resolver.ask_ahead([pool()])
    await issuer.clock.settle()
    assert len(issuer.asked) == 1


# --- in the refresh, and in the gateway -----------------------------------------------------------------------


async def test_refreshes_of_many_accounts_ask_the_issuer_once(tmp_path: Path, issuer: Issuer) -> None:
    """The first finds out, the others are told; when it is back the refresh succeeds."""
    rig = Rig(tmp_path, issuer.clock)
    rig.pools["pool"] = replace(rig.pools["pool"], issuer=ISSUER, token_url=None)
    refresher = rig.process(rig.store, resolver=EndpointResolver(issuer.fetch, issuer.clock, Random(1)))
    accounts = [await rig.add(f"a{number}") for number in range(10)]
    outcomes = [await refresher.refresh(account, probe=True) for account in accounts]
    assert len(issuer.asked) == 1
    assert [isinstance(one, Unavailable) and one.asked for one in outcomes] == [True] + [False] * 9
    issuer.up = True
    await issuer.clock.advance(SHORTEST)
    assert isinstance(await refresher.refresh(accounts[3], probe=True), Ready)
    assert isinstance(await refresher.refresh(accounts[4]), Ready)


async def test_metadata_that_must_not_be_used_is_the_configurations_fault(tmp_path: Path, issuer: Issuer) -> None:
    """Also for those who are answered without a question."""
    issuer.answer = (404, b"")
    rig = Rig(tmp_path, issuer.clock)
    rig.pools["pool"] = replace(rig.pools["pool"], issuer=ISSUER, token_url=None)
    refresher = rig.process(rig.store, resolver=EndpointResolver(issuer.fetch, issuer.clock, Random(1)))
    account = await rig.add()
    for _ in range(2):
        assert isinstance(await refresher.refresh(account, probe=True), Misconfigured)
    assert len(issuer.asked) == 2  # the two places of one question


async def test_a_gateway_tells_at_its_start(tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Although no token is due for an hour."""

    class Deaf(Transport):
        async def get(self, url: str, headers: object) -> Answer:
            return Reply(status=200, body=json.dumps(METADATA).encode()) if up else NotSent(detail="connection refused")

    up = False
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = make_home(tmp_path, pools={"p": {"issuer": ISSUER, "client_id": "c", "hosts": ["api.test"]}})
    write_account(home, "p/alice", {"token": token_table(provider.issue("alice"), now=clock.time())})
    async with idle_gateway(home, clock, Deaf(provider)) as service:
        await clock.settle()
        assert f"issuer {ISSUER} does not answer" in caplog.text
        assert "connection refused" in caplog.text
        assert "See authpool.toml: pools.p.issuer" in caplog.text
        up = True
        caplog.clear()
        await service.reload()
        await clock.settle()
        assert "does not answer" not in caplog.text
        assert service.resolver.known_token_url(service.snapshot.config.pools["p"]) == METADATA["token_endpoint"]
