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
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, BrokenAccount, Token
from authpool.errors import BrokenAccountError, StoreUnavailableError, UnknownAccountError
from authpool.store import ClientChange, Store
from authpool.store.client_record import ClientRecord, Rejection
from authpool.testing.gateway_clients import GatewayClientConformance
from authpool.testing.holds import HoldConformance
from authpool.testing.store_place import ALICE, BOB, SECONDS, counted, made_account
from authpool.testing.trails import TrailConformance

_CLIENT = ClientRecord(client="c", extra={"label": "mine"})


class StoreConformance(HoldConformance, GatewayClientConformance, TrailConformance):
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

    @pytest.mark.asyncio
    async def test_a_change_is_called_where_the_event_loop_runs(self, store: Store) -> None:
        """It may look at what belongs to the loop, which holds still meanwhile."""
        threads: list[int] = []

        def look(current: Account | None) -> Account:
            threads.append(threading.get_ident())
            return current or made_account()

        def look_at_client(current: ClientRecord | None) -> ClientRecord:
            threads.append(threading.get_ident())
            return current or _CLIENT

        async with store.hold(ALICE) as hold:
            await hold.update(look)
            await hold.keep_granted(look)
        await store.update(ALICE, look)
        await store.update_client("c", look_at_client)
        assert set(threads) == {threading.get_ident()}

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

    @pytest.mark.asyncio
    async def test_what_is_known_of_clients_iscounted_by_everybody(self, store: Store, place: Path) -> None:
        """From two processes' stores at once: no rejection is lost, and each of them reads all."""
        stores = [store, self.open(place)]
        assert await store.read_client("c") is None
        assert dict(await store.clients()) == {}

        def noted(number: int) -> ClientChange:
            one = Rejection(account=AccountKey.of("p", f"user{number}"), fingerprint="00000000", at=number)
            return lambda now: replace(now or _CLIENT, rejections=(*(now or _CLIENT).rejections, one))

        await asyncio.gather(*(stores[number % 2].update_client("c", noted(number)) for number in range(20)))
        for reader in (*stores, self.open(place)):
            record = await reader.read_client("c")
            assert record is not None
            assert {one.at for one in record.rejections} == set(range(20))
            assert record.extra["label"] == "mine"
            assert dict(await reader.clients()) == {"c": record}
            assert await reader.read_client("d") is None

    @pytest.mark.asyncio
    async def test_what_another_process_noted_of_a_client_is_read_at_once(self, store: Store, place: Path) -> None:
        """However often it was read before."""
        other = self.open(place)
        for number in range(30):
            stored = await other.update_client("c", lambda now, at=number: replace(now or _CLIENT, accepted_at=at))  # type: ignore[misc]
            assert await store.read_client("c") == stored
            assert dict(await store.clients()) == {"c": stored}

    @pytest.mark.asyncio
    async def test_a_process_that_dies_leaves_whole_records_and_no_lock(self, store: Store, place: Path) -> None:
        """Killed at a random moment of writing, again and again: the record is an old one or the new one."""
        if not self.shared:
            pytest.skip("no other process can open this store")
        await store.update(ALICE, lambda _: made_account())
        count = 0
        for round_ in range(8):
            await asyncio.to_thread(self._kill_a_writer, place, 0.01 * round_)
            async with asyncio.timeout(SECONDS), store.hold(ALICE):
                account = await store.read(ALICE)
            assert account.token.access_token == "first"
            assert account.extra["label"] == "work"
            assert account.extra.get("count", 0) >= count
            count = account.extra.get("count", 0)
            assert set(await self.open(place).load(["p"])) == {ALICE}
        assert count > 0

    def _kill_a_writer(self, place: Path, after_seconds: float) -> None:
        """Start a process that holds the lock and writes without end, let it begin, and kill it."""
        kind = type(self)
        paths = os.pathsep.join([str(Path(str(sys.modules[kind.__module__].__file__)).parent), *sys.path])
        process = subprocess.Popen(
            [sys.executable, "-m", "authpool.testing.writing_process", kind.__module__, kind.__qualname__, str(place)],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            time.sleep(after_seconds)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()


async def write_for_ever(store: Store) -> None:
    """What the process that is killed does."""
    async with store.hold(ALICE):
        await store.update(ALICE, counted)
        print("writing", flush=True)  # noqa: T201 - that is how the test knows
        while True:
            await store.update(ALICE, counted)
