"""Following the store: what is told last is what holds, whoever else catches up meanwhile."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.errors import StoreUnavailableError
from authpool.gateway.service import Service
from authpool.pool.pool import Pool, State
from authpool.store import Record
from support.clock import FakeClock
from support.home import account_path, read_account, write_account
from support.idle_gateway import idle_gateway, idle_home, sign_in, state
from support.rotating_provider import RotatingProvider
from support.transport import Transport


def switch(home: Path, name: str, *, paused: bool) -> None:
    """Pause or resume an account by hand."""
    write_account(home, f"p/{name}", {**read_account(home, f"p/{name}"), "proxy_disabled": paused})


async def test_a_resumed_account_is_not_paused_again_by_an_older_look(tmp_path: Path, clock: FakeClock) -> None:
    """Alice is paused while Bob's file is away; before it is sure that he is gone she is resumed."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice", "bob")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        switch(home, "alice", paused=True)
        bob = account_path(home, "p/bob")
        aside = bob.rename(bob.with_suffix(".toml~"))
        first = asyncio.ensure_future(gateway.catch_up())
        async with asyncio.timeout(30):  # the clock stands still: only removals are waited for
            while state(gateway, "alice") is not State.PAUSED:
                await asyncio.sleep(0.001)
        switch(home, "alice", paused=False)
        await gateway.catch_up()
        await clock.advance(1)
        await first
        assert state(gateway, "alice") is State.READY
        assert state(gateway, "bob") is State.READY
        aside.rename(bob)


async def test_a_removal_is_taken_in_within_a_second(tmp_path: Path, clock: FakeClock) -> None:
    """By the gateway itself, with nobody's catch-up."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice", "bob")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        account_path(home, "p/bob").unlink()
        async with asyncio.timeout(30):
            while len(gateway.snapshot.pools["p"]) == 2:
                await asyncio.sleep(0.01)


class Slow:
    """Answers of `changes`, each given when the test says so."""

    def __init__(self, gateway: Service) -> None:
        self.asked: list[asyncio.Future[Mapping[AccountKey, Record | None]]] = []
        gateway._follower._store = self  # type: ignore[assignment]

    async def changes(self) -> Mapping[AccountKey, Record | None]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    async def wait_until_asked(self, times: int) -> None:
        while len(self.asked) < times:
            await asyncio.sleep(0)


async def test_one_catch_up_at_a_time(tmp_path: Path, clock: FakeClock) -> None:
    """Who comes during one waits for one that began after them, and all of those share it."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        store = Slow(gateway)
        first = asyncio.ensure_future(gateway._follower.catch_up())
        await store.wait_until_asked(1)
        later = [asyncio.ensure_future(gateway._follower.catch_up()) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(store.asked) == 1
        store.asked[0].set_result({})
        await first
        await store.wait_until_asked(2)
        assert not any(one.done() for one in later)
        store.asked[1].set_result({})
        await asyncio.gather(*later)
        assert len(store.asked) == 2


async def test_who_waited_for_one_that_failed_asks_again(tmp_path: Path, clock: FakeClock) -> None:
    """Its error is its own caller's; and one whose caller left ends nobody else's."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        store = Slow(gateway)
        tasks = [asyncio.ensure_future(gateway._follower.catch_up()) for _ in range(4)]
        await store.wait_until_asked(1)
        store.asked[0].set_exception(StoreUnavailableError("away"))
        with pytest.raises(StoreUnavailableError):
            await tasks[0]
        await store.wait_until_asked(2)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        store.asked[1].set_result({})
        await asyncio.gather(*tasks[2:])
        assert len(store.asked) == 2  # what was asked for by who left is everybody's all the same


@pytest.mark.parametrize("count", (300,))
async def test_a_reload_lets_others_run_and_loses_nothing(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """What is refreshed or found dead while the new pools are built is so in them; requests go on between pieces."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider)
    for number in range(count):
        sign_in(home, clock, provider, f"user{number}")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        await gateway.store.changes()
        former = gateway.snapshot.pools["p"]
        load, loaded = gateway.store.load, asyncio.Event()

        async def load_and_tell(pools: Collection[str]) -> Mapping[AccountKey, Record]:
            records = await load(pools)
            loaded.set()
            return records

        monkeypatch.setattr(gateway.store, "load", load_and_tell)
        reloading = asyncio.ensure_future(gateway.reload())
        turns, written = 0, None
        while not reloading.done():
            await asyncio.sleep(0)
            pool = gateway.snapshot.pools["p"]
            assert len(pool) == count  # never an empty moment, nor a part of it
            turns += pool is former
            if loaded.is_set() and written is None:
                written = pool.put(refreshed(pool, "user7")).account
                pool.condemn(
                    pool.get(AccountKey.of("p", "user8")).account.with_disabled("invalid_grant", 1), stored=False
                )  # type: ignore[union-attr]
        await reloading
        assert turns > 2
        pool = gateway.snapshot.pools["p"]
        assert pool is not former
        member = pool.get(AccountKey.of("p", "user7"))
        assert member is not None
        assert member.account is written
        assert state(gateway, "user8") is State.DISABLED


def refreshed(pool: Pool, name: str) -> Record:
    member = pool.get(AccountKey.of("p", name))
    assert member is not None
    return member.account.with_paused(1)
