"""What every store must tell those who follow it; a part of `authpool.testing.stores.StoreConformance`."""

import asyncio
import time
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, Token
from authpool.errors import StoreUnavailableError
from authpool.store import Store
from authpool.testing.store_place import ALICE, BOB, SECONDS, StorePlace, counted, made_account


class FollowingConformance(StorePlace):
    """Changes are told by `changes`, and `wait_for_changes` ends when there may be some."""

    @pytest.mark.asyncio
    async def test_changes_tell_what_differs_and_tell_it_once(self, store: Store, place: Path) -> None:
        """What another process wrote, changed or removed; the others are not named."""
        await store.update(ALICE, lambda _: made_account())
        await store.load(["p"])
        other = self.open(place)
        await other.update(BOB, lambda _: made_account("bob"))
        await self._told(store, BOB, "first")
        await other.update(BOB, lambda current: current and current.with_token(Token(access_token="second")))
        await self._told(store, BOB, "second")
        await other.update(BOB, lambda _: None)
        await self._told(store, BOB, None)
        assert await store.changes() == {}

    @pytest.mark.asyncio
    async def test_own_writes_are_told_too(self, store: Store, place: Path) -> None:
        """Whoever follows learns of them the same way, by the next call, and once."""
        await store.load(["p"])
        written = await store.update(ALICE, lambda _: made_account())
        assert dict(await store.changes()) == {ALICE: written}
        assert await store.changes() == {}
        written = await store.update(ALICE, counted)
        await store.update(BOB, lambda _: made_account("bob"))
        await store.update(BOB, lambda _: None)
        told = dict(await store.changes())
        assert told[ALICE] == written
        assert told.get(BOB) is None
        assert dict(await self.open(place).load(["p"])) == {ALICE: written}

    @pytest.mark.asyncio
    async def test_waiting_for_changes_ends_when_there_is_one(self, store: Store, place: Path) -> None:
        """By another process's hand, and by this one's; or after a while, when there is none."""
        await store.update(ALICE, lambda _: made_account())
        await store.load(["p"])
        writers = [store, self.open(place)]
        try:
            for number in range(4):
                written = await writers[number % 2].update(ALICE, counted)
                told: dict[AccountKey, object] = {}
                async with asyncio.timeout(SECONDS):
                    while not told:
                        await store.wait_for_changes()
                        told |= await store.changes()
                assert told == {ALICE: written}
            async with asyncio.timeout(60):
                await store.wait_for_changes()
        finally:
            await store.aclose()
        assert (await store.read(ALICE)).extra["count"] == 4

    @pytest.mark.asyncio
    async def test_the_same_object_writes_nothing(self, store: Store, place: Path) -> None:
        """A change that changes nothing is no news to anybody."""
        written = await store.update(ALICE, lambda _: made_account())
        other = self.open(place)
        await store.load(["p"])
        await other.load(["p"])
        assert await store.update(ALICE, lambda current: current) == written
        for one in (store, other):
            assert await one.changes() == {}

    @pytest.mark.asyncio
    async def test_a_lost_connection_loses_no_change(self, store: Store, place: Path) -> None:
        """It is made anew; until then the store is unavailable, and what changed meanwhile is told."""
        await store.update(ALICE, lambda _: made_account())
        await store.load(["p"])
        if not await self.cut(place):
            pytest.skip("this store has no connection")
        other = self.open(place)
        await other.update(BOB, lambda _: made_account("bob"))
        told: dict[AccountKey, object] = {}
        async with asyncio.timeout(SECONDS):
            while not told:
                await store.wait_for_changes()  # raises nothing
                try:
                    told |= await store.changes()
                except StoreUnavailableError:
                    await asyncio.sleep(0.01)
        assert set(told) == {BOB}
        assert (await store.read(ALICE)).token.access_token == "first"

    async def _told(self, store: Store, key: AccountKey, token: str | None) -> None:
        """Within a few seconds, `changes` tells of the account with that token (None: that it is gone)."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            told = dict(await store.changes())
            assert set(told) <= {key}
            if key in told:
                record = told[key]
                if (record.token.access_token if isinstance(record, Account) else None) == token:
                    return
            await asyncio.sleep(0.02)
        pytest.fail(f"`changes` never told of {key}")
