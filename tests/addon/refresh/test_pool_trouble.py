"""Trouble of whole pools: told once when it begins and once when it is over, to plugins and to the webhook."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import authpool_webhook
from authpool.accounts.account import AccountKey
from authpool.accounts.events import PoolEvent, PoolEventKind
from authpool.config import PoolConfig
from authpool.config.host_pattern import HostPattern
from authpool.gateway.service import Service
from authpool.oauth.verdict import Answer
from authpool.refresh.pool_trouble import Troubles
from authpool_webhook import OF_POOLS, Target, Webhook
from support.clock import FakeClock
from support.idle_gateway import TOKEN_URL, idle_gateway, idle_home, turn
from support.rotating_provider import RotatingProvider
from support.transport import Transport, reply

REJECTED = reply(401, {"error": "invalid_client"})
CLIENT = f"{TOKEN_URL} client"


def config(name: str, token_url: str = TOKEN_URL) -> PoolConfig:
    return PoolConfig(name=name, hosts=(HostPattern.parse(f"{name}.example"),), token_url=token_url)


@pytest.fixture
def told() -> list[PoolEvent]:
    return []


@pytest.fixture
def troubles(told: list[PoolEvent], clock: FakeClock) -> Troubles:
    pools = {"a": config("a"), "b": config("b"), "c": config("c", "https://other.test/token")}
    return Troubles(told.append, lambda: pools, clock)


def kinds(told: list[PoolEvent]) -> list[tuple[str, str]]:
    return [(event.kind, event.pool) for event in told]


def test_a_rejected_client_is_told_once_for_each_pool_and_so_is_its_end(
    troubles: Troubles, told: list[PoolEvent], clock: FakeClock
) -> None:
    """However often it is rejected; an acceptance in one pool ends it in all that share the client."""
    for pool in ("a", "b", "a", "b"):
        troubles.client_rejected(pool, CLIENT, "invalid_client")
    for pool in ("b", "a"):
        troubles.client_accepted(pool, CLIENT)
    assert kinds(told) == [(kind, pool) for kind in ("client_rejected", "client_accepted") for pool in ("a", "b")]
    assert told[0] == PoolEvent(
        kind="client_rejected",
        pool="a",
        endpoint="provider.test",
        reason="invalid_client",
        at=int(clock.time()),
    )


def test_two_clients_of_a_pool(troubles: Troubles, told: list[PoolEvent]) -> None:
    """An account may have a client of its own: the pool's trouble is over when both are accepted."""
    troubles.client_rejected("a", CLIENT, "x")
    troubles.client_rejected("a", f"{TOKEN_URL} another", "x")
    troubles.client_accepted("a", CLIENT)
    assert kinds(told) == [("client_rejected", "a")]
    troubles.client_accepted("a", f"{TOKEN_URL} another")
    assert kinds(told) == [("client_rejected", "a"), ("client_accepted", "a")]


def test_a_client_that_was_replaced_in_the_configuration(troubles: Troubles, told: list[PoolEvent]) -> None:
    """The next token ends the trouble; a rejection before that does not begin it anew."""
    troubles.client_rejected("a", CLIENT, "x")
    troubles.doubt()
    troubles.client_rejected("a", CLIENT, "x")
    troubles.doubt()
    troubles.client_accepted("b", f"{TOKEN_URL} of-another-pool")
    assert kinds(told) == [("client_rejected", "a")]
    troubles.client_accepted("a", f"{TOKEN_URL} its-successor")
    assert kinds(told) == [("client_rejected", "a"), ("client_accepted", "a")]


def test_pools_that_share_an_endpoint_share_its_trouble(troubles: Troubles, told: list[PoolEvent]) -> None:
    """Also those that have not asked it; each is told its begin and its end once."""
    for pool in ("a", "b"):
        troubles.endpoint_down(pool, TOKEN_URL, "503")
    troubles.endpoint_up("c", "https://other.test/token")
    assert kinds(told) == [("endpoint_down", "a"), ("endpoint_down", "b")]
    for pool in ("b", "a"):
        troubles.endpoint_up(pool, TOKEN_URL)
    assert kinds(told)[2:] == [("endpoint_up", "a"), ("endpoint_up", "b")]
    assert {event.endpoint for event in told} == {"provider.test"}


def test_nothing_is_told_of_a_pool_that_is_configured_no_more(troubles: Troubles, told: list[PoolEvent]) -> None:
    """Its accounts may still be under way."""
    troubles.client_rejected("gone", CLIENT, "x")
    troubles.endpoint_down("gone", "https://gone.test/token", "x")
    assert told == []


# --- a gateway ------------------------------------------------------------------------------------------------------


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What the webhook is given to send."""
    sent: list[Mapping[str, Any]] = []

    class Listening(Webhook):
        def tell(self, kind: str, **message: Any) -> None:
            sent.append({"type": kind, **message})

    webhook = Listening()
    webhook.target = Target(url="https://receiver.test", secret=b"k")
    monkeypatch.setattr(authpool_webhook._Current, "webhook", webhook)
    return sent


async def refresh(service: Service, *names: str) -> None:
    for name in names:
        member = service.snapshot.pools["p"].get(AccountKey.of("p", name))
        assert member is not None
        await service.refresher.refresh(member.account, force=True)


async def arrived(clock: FakeClock, sent: list[Mapping[str, Any]], kind: str) -> None:
    """The plugins' thread hands it over."""
    await turn(clock, 600, lambda: any(message["type"] == kind for message in sent))


async def test_a_client_that_is_rejected_and_accepted_again(
    tmp_path: Path, clock: FakeClock, listening: list[Mapping[str, Any]]
) -> None:
    """Over a reload as well, and with a reason that holds no secret."""
    transport = Transport(RotatingProvider(monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, transport.provider, "alice", "bob")
    async with idle_gateway(home, clock, transport) as gateway:
        transport.script.extend([REJECTED] * 3)
        await refresh(gateway, "alice", "bob")
        await gateway.reload()
        await refresh(gateway, "alice")
        await arrived(clock, listening, "client.rejected")
        assert [message["type"] for message in listening] == ["client.rejected"]
        await refresh(gateway, "alice", "bob")
        await arrived(clock, listening, "client.accepted")
    begin, end = listening
    assert end == {"type": "client.accepted", "pool": "p", "endpoint": "provider.test", "reason": "", "at": end["at"]}
    assert (begin["pool"], begin["endpoint"]) == ("p", "provider.test")
    assert "invalid_client" in begin["reason"]


async def test_an_endpoint_that_is_down_and_up_again(
    tmp_path: Path, clock: FakeClock, listening: list[Mapping[str, Any]]
) -> None:
    """One account in trouble does not tell of it, two do; the first answer ends it."""
    transport = Transport(RotatingProvider(monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, transport.provider, "alice", "bob")
    async with idle_gateway(home, clock, transport) as gateway:
        down: Answer = reply(503)
        transport.script.extend([down] * 3)
        await refresh(gateway, "alice", "bob", "alice")
        await arrived(clock, listening, "endpoint.down")
        assert [message["type"] for message in listening] == ["endpoint.down"]
        await refresh(gateway, "bob", "alice")
        await arrived(clock, listening, "endpoint.up")
    assert [message["type"] for message in listening] == ["endpoint.down", "endpoint.up"]


async def test_the_command_line_tells_of_no_pool(
    tmp_path: Path, clock: FakeClock, listening: list[Mapping[str, Any]]
) -> None:
    """It would tell of a begin, and be gone before the end."""
    transport = Transport(RotatingProvider(monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, transport.provider, "alice")
    service = Service(home, {}, clock=clock, endpoint=transport, process="command line")
    transport.script.append(REJECTED)
    try:
        account = await service.store.read(AccountKey.of("p", "alice"))
        await service.refresher.refresh(account, force=True)
        assert service.refresher.fault("p") is not None
    finally:
        await service.stop()  # tells what is left to be told
    assert listening == []


def test_every_kind_has_a_name_that_can_be_selected() -> None:
    """In `events` of the webhook's table."""
    assert set(OF_POOLS) == set(PoolEventKind.__value__.__args__)
    assert set(OF_POOLS.values()) < set(authpool_webhook.TYPES)


# --- readiness ------------------------------------------------------------------------------------------------------


async def test_a_pool_whose_endpoint_is_down_serves_while_a_token_lives(tmp_path: Path, clock: FakeClock) -> None:
    """And can't any more from its end on, until the endpoint answers."""
    provider = RotatingProvider(expires_in=600, monotonic=clock.monotonic)
    transport = Transport(provider)
    home = idle_home(tmp_path, clock, provider, "alice", "bob")
    async with idle_gateway(home, clock, transport) as gateway:
        handle, transport.handle = transport.handle, lambda form: reply(503)  # type: ignore[method-assign]
        pool = gateway.snapshot.config.pools["p"]
        await turn(clock, 540)
        health = gateway.readiness.of(pool)
        assert (health.endpoint_down, health.can_serve) == (True, True)
        await turn(clock, 70)
        health = gateway.readiness.of(pool)
        assert (health.endpoint_down, health.can_serve) == (True, False)
        transport.handle = handle  # type: ignore[method-assign]
        await turn(clock, 600, lambda: gateway.readiness.of(pool).can_serve)
        health = gateway.readiness.of(pool)
        assert (health.endpoint_down, health.can_serve) == (False, True)


async def test_a_probe_looks_at_no_more_accounts_than_it_must(tmp_path: Path, clock: FakeClock) -> None:
    """At one while it can serve; at all of them once in a while when nobody can."""
    names = [f"user{number}" for number in range(50)]
    transport = Transport(RotatingProvider(monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, transport.provider, *names)
    async with idle_gateway(home, clock, transport) as gateway:
        pool = gateway.snapshot.pools["p"]
        looked: list[object] = []
        state = type(next(iter(pool))).state
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(next(iter(pool))), "state", lambda member, now: looked.append(1) or state(member, now))
            for _ in range(10):
                assert gateway.readiness.of(pool.config).can_serve
            assert len(looked) <= 11
            transport.script.append(REJECTED)
            await refresh(gateway, "user0")
            for member in pool:
                member.failures = 1
                member.refused_token = member.account.token.access_token
                pool.put(member.account)
            looked.clear()
            for _ in range(10):
                assert not gateway.readiness.of(pool.config).can_serve
            assert len(looked) <= 70


async def test_a_pool_that_is_not_loaded_can_not_serve(tmp_path: Path, clock: FakeClock) -> None:
    """The process answers before its accounts are there."""
    home = idle_home(tmp_path, clock, RotatingProvider(monotonic=clock.monotonic), "alice")
    service = Service(home, {}, clock=clock)
    try:
        assert not service.readiness.of(service.snapshot.config.pools["p"]).can_serve
    finally:
        await service.stop()
