"""What every store must hold to.

Subclass it in a test module of yours, and say how to open one:

    class TestMyStore(StoreConformance):
        @staticmethod
        def open(place: Path) -> Store:
            return MyStore(place / "accounts.db")

Two stores opened on one place are two processes' views of it. Crashes are real: a process of its own opens the store by
the class's import path, so the class must be importable from a module. Needs pytest-asyncio.
"""

import asyncio
import threading
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, BrokenAccount
from authpool.errors import BrokenAccountError, StoreUnavailableError, UnknownAccountError
from authpool.store import Store
from authpool.store.client_record import ClientRecord
from authpool.testing.client_records import CLIENT, ClientRecordConformance
from authpool.testing.crashes import CrashConformance
from authpool.testing.following import FollowingConformance
from authpool.testing.gateway_clients import GatewayClientConformance
from authpool.testing.holds import HoldConformance
from authpool.testing.store_place import ALICE, BOB, SECONDS, counted, made_account
from authpool.testing.trails import TrailConformance


class StoreConformance(
    HoldConformance,
    FollowingConformance,
    CrashConformance,
    ClientRecordConformance,
    GatewayClientConformance,
    TrailConformance,
):
    """Run by pytest for each subclass. Override `open`; and what else `StorePlace` asks for."""

    @pytest.mark.asyncio
    async def test_what_was_written_is_read_by_everybody(self, store: Store, place: Path) -> None:
        """With every field, unknown keys too, by another process's store as well."""
        written = await store.update(ALICE, lambda _: made_account())
        assert written == await store.read(ALICE) == await self.open(place).read(ALICE)
        assert written is not None
        assert written.extra["label"] == "work"
        assert dict(await self.open(place).load(["p"])) == {ALICE: written}

    @pytest.mark.asyncio
    async def test_an_account_that_is_not_there(self, store: Store) -> None:
        """Reading one is an error, changing one begins with None, and removing one twice is no trouble."""
        with pytest.raises(UnknownAccountError):
            await store.read(ALICE)
        assert await store.update(ALICE, lambda current: current) is None
        await store.update(ALICE, lambda _: made_account())
        assert await store.update(ALICE, lambda _: None) is None
        assert await store.update(ALICE, lambda _: None) is None
        with pytest.raises(UnknownAccountError):
            await store.read(ALICE)

    @pytest.mark.asyncio
    async def test_a_change_that_raises_changes_nothing(self, store: Store) -> None:
        """The exception reaches the caller, and the record is as it was."""
        await store.update(ALICE, lambda _: made_account())

        def refuse(_current: Account | None) -> Account | None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await store.update(ALICE, refuse)
        assert (await store.read(ALICE)).token.access_token == "first"

    @pytest.mark.asyncio
    async def test_the_spelling_first_seen_is_kept(self, store: Store) -> None:
        """Names compare case-insensitively; whoever writes, the name stays as it was first written."""
        key = AccountKey.of("p", "ALICE")
        assert key == ALICE
        await store.update(ALICE, lambda _: made_account("Alice"))
        written = await store.update(key, lambda _: made_account("aLICE", "second"))
        assert written is not None
        assert (written.name, written.token.access_token) == ("Alice", "second")
        assert dict(await store.load(["p"])) == {ALICE: written}

    @pytest.mark.asyncio
    async def test_an_update_that_is_cancelled_is_made_or_not(self, store: Store) -> None:
        """At whatever moment: the record is whole, and nothing is held up."""
        await store.update(ALICE, lambda _: made_account())
        counts = []
        for turns in range(12):
            writing = asyncio.create_task(store.update(ALICE, counted))
            for _ in range(turns):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            async with asyncio.timeout(SECONDS):
                await store.update(
                    BOB, lambda _: made_account("bob")
                )  # whatever was begun is over, or waits for nobody
                counts.append((await store.read(ALICE)).extra.get("count", 0))
        assert counts == sorted(counts)
        assert (await store.read(ALICE)).token.access_token == "first"

    @pytest.mark.asyncio
    async def test_a_broken_record_is_that_and_breaks_no_other(self, store: Store, place: Path) -> None:
        """It is told as broken and not overwritten, but by who means to; then the change starts from nothing."""
        if not await self.break_record(place, ALICE):
            pytest.skip("this store can't be made to hold a broken record")
        await store.update(BOB, lambda _: made_account("bob"))
        records = await store.load(["p"])
        assert isinstance(records[ALICE], BrokenAccount)
        assert isinstance(records[BOB], Account)
        with pytest.raises(BrokenAccountError):
            await store.read(ALICE)
        with pytest.raises(BrokenAccountError):
            await store.update(ALICE, lambda _: made_account())
        given: list[Account | None] = []

        def replace_it(current: Account | None) -> Account:
            given.append(current)
            return made_account()

        written = await store.update(ALICE, replace_it, replace_broken=True)
        assert set(given) == {None}
        assert await store.read(ALICE) == written
        await self._told(store, ALICE, "first")

    @pytest.mark.asyncio
    async def test_a_store_that_is_away_says_so(self, store: Store, place: Path) -> None:
        """Nobody is told that accounts are gone, nothing is made anew and empty; once it is back, so are they."""
        written = await store.update(ALICE, lambda _: made_account())
        await store.load(["p"])
        if not await self.take_away(place):
            pytest.skip("this store can't be taken away")
        with pytest.raises(StoreUnavailableError):
            await store.changes()
        with pytest.raises(StoreUnavailableError):
            await store.load(["p"])
        with pytest.raises(StoreUnavailableError):
            await store.update(ALICE, counted)
        with pytest.raises(StoreUnavailableError):
            async with store.hold(ALICE):
                pytest.fail("there is nothing to lock")
        await self.bring_back(place)
        assert await store.changes() == {}
        assert dict(await store.load(["p"])) == {ALICE: written}

    @pytest.mark.asyncio
    async def test_a_change_is_called_where_the_event_loop_runs(self, store: Store) -> None:
        """It may look at what belongs to the loop, which holds still meanwhile."""
        threads: list[int] = []

        def look(current: Account | None) -> Account:
            threads.append(threading.get_ident())
            return current or made_account()

        def look_at_client(current: ClientRecord | None) -> ClientRecord:
            threads.append(threading.get_ident())
            return current or CLIENT

        async with store.hold(ALICE) as hold:
            await hold.update(look)
            await hold.keep_granted(look)
        await store.update(ALICE, look)
        await store.update_client("c", look_at_client)
        assert set(threads) == {threading.get_ident()}

    @pytest.mark.asyncio
    async def test_no_update_is_lost(self, store: Store, place: Path) -> None:
        """Whatever order they come in, from two processes' stores at once: each counts."""
        await store.update(ALICE, lambda _: made_account())
        stores = [store, self.open(place)]
        await asyncio.gather(*(stores[number % 2].update(ALICE, counted) for number in range(40)))
        assert (await store.read(ALICE)).extra["count"] == 40

    @pytest.mark.asyncio
    async def test_reading_all_while_others_write_sees_whole_records(self, store: Store, place: Path) -> None:
        """A reload under load finds every account, each as somebody wrote it."""
        names = [f"user{number}" for number in range(20)]
        for name in names:
            await store.update(AccountKey.of("p", name), lambda _, name=name: made_account(name))  # type: ignore[misc]
        writer = self.open(place)

        async def write() -> None:
            for number in range(60):
                await writer.update(AccountKey.of("p", names[number % 20]), counted)

        writing = asyncio.create_task(write())
        while not writing.done():
            records = await self.open(place).load(["p"])
            assert {key.name for key in records} == set(names)
            assert all(isinstance(record, Account) for record in records.values())
        await writing
