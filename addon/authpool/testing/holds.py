"""What a store's holds must hold to, and what never waits for one."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, Token
from authpool.accounts.standing import Cooldown, Standing
from authpool.errors import HoldLostError, StoreUnavailableError
from authpool.store import Hold, Store
from authpool.testing.store_place import ALICE, BOB, SECONDS, StorePlace, counted, made_account


def _cooling(until: int) -> Callable[[Standing], Standing]:
    return lambda standing: standing.with_cooldown(Cooldown(until=until, reason="told to"), 0)


class HoldConformance(StorePlace):
    """The part of `StoreConformance` that is about holds."""

    @pytest.mark.asyncio
    async def test_a_lock_is_held_by_one_at_a_time(self, store: Store, place: Path) -> None:
        """Another process's store waits for it; another account's lock, and an update, do not."""
        other = self.open(place)
        order: list[str] = []

        async def wait_for_it() -> None:
            async with other.hold(ALICE):
                order.append("second")

        async with store.hold(ALICE):
            waiting = asyncio.create_task(wait_for_it())
            async with asyncio.timeout(SECONDS), other.hold(BOB):
                await other.update(ALICE, lambda _: made_account())
            await asyncio.sleep(0.1)
            order.append("first")
        async with asyncio.timeout(SECONDS):
            await waiting
        assert order == ["first", "second"]

    @pytest.mark.asyncio
    async def test_waiting_for_a_lock_can_be_given_up(self, store: Store, place: Path) -> None:
        """Whoever is cancelled while waiting holds nothing afterwards."""
        other = self.open(place)
        async with store.hold(ALICE):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), other.hold(ALICE):
                    pytest.fail("it was held")
        async with asyncio.timeout(SECONDS), store.hold(ALICE):
            pass

    @pytest.mark.asyncio
    async def test_a_hold_excludes_the_other_tasks_of_its_process(self, store: Store) -> None:
        """One after the other, each with a fence of its own."""
        inside, fences = [0], set()

        async def take() -> None:
            async with store.hold(ALICE) as hold:
                inside[0] += 1
                assert inside == [1]
                assert hold.key == ALICE
                assert not hold.lost
                fences.add(hold.fence)
                await asyncio.sleep(0.01)
                inside[0] -= 1

        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(take() for _ in range(5)))
        assert len(fences) == 5

    @pytest.mark.asyncio
    async def test_reading_and_writing_through_a_hold(self, store: Store, place: Path) -> None:
        """As through the store; everybody sees it."""
        async with store.hold(ALICE) as hold:
            assert await hold.update(lambda _: made_account()) == await hold.read()
            await hold.update(counted)
            kept = await hold.keep_granted(lambda now: now and now.with_token(Token(access_token="new")))
        assert kept == await self.open(place).read(ALICE)
        assert (kept.token.access_token, kept.extra["count"]) == ("new", 1)

    @pytest.mark.asyncio
    async def test_a_hold_that_is_over_decides_nothing(self, store: Store) -> None:
        """Only what was granted is written yet, while the credential that was presented is the stored one."""
        await store.update(ALICE, lambda _: made_account())
        async with store.hold(ALICE) as hold:
            await hold.read()
        await self._is_lost(hold)
        await self._keeps_what_was_granted(hold, store)

    @pytest.mark.asyncio
    async def test_a_hold_ends_at_its_deadline(self, store: Store, place: Path) -> None:
        """By itself: then somebody else may have the account, and the first decides nothing any more."""
        await store.update(ALICE, lambda _: made_account())
        other = self.open(place)
        async with store.hold(ALICE) as hold:
            if hold.deadline is None:
                pytest.skip("this store's holds have no deadline")
            async with asyncio.timeout(SECONDS), other.hold(ALICE) as second:
                assert second.fence != hold.fence
                await self._is_lost(hold)
                await second.update(counted)
                await self._keeps_what_was_granted(hold, other)
        assert (await store.read(ALICE)).extra["count"] == 1

    @pytest.mark.asyncio
    async def test_a_hold_that_lost_says_so_without_being_asked_to_write(self, store: Store, place: Path) -> None:
        """Letting go of it does not take the account from who holds it now."""
        other, third = self.open(place), self.open(place)
        async with store.hold(ALICE) as hold:
            if hold.deadline is None:
                pytest.skip("this store's holds have no deadline")
            taking = other.hold(ALICE)
            async with asyncio.timeout(SECONDS):
                second = await taking.__aenter__()
            assert hold.lost
        try:
            assert not second.lost
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), third.hold(ALICE):
                    pytest.fail("it was held")
        finally:
            await taking.__aexit__(None, None, None)

    async def _is_lost(self, hold: Hold) -> None:
        assert hold.lost
        with pytest.raises(HoldLostError):
            await hold.read()
        with pytest.raises(HoldLostError):
            await hold.update(lambda now: now and now.with_disabled("dead", 1))

    async def _keeps_what_was_granted(self, hold: Hold, store: Store) -> None:
        class AnotherError(Exception):
            """The credential is another one."""

        def succeed(current: Account | None) -> Account:
            if current is None or current.token.access_token != "first":
                raise AnotherError
            return current.with_token(Token(access_token="granted"))

        assert await hold.keep_granted(succeed) == await store.read(ALICE)
        with pytest.raises(AnotherError):
            await hold.keep_granted(succeed)
        account = await store.read(ALICE)
        assert account.token.access_token == "granted"
        assert not account.disabled

    # --- what never waits for a hold ------------------------------------------------------------------------------

    @pytest.mark.asyncio
    async def test_standing_never_waits_for_a_hold(self, store: Store, place: Path) -> None:
        """Neither for another process's nor for this one's own."""
        await store.update(ALICE, lambda _: made_account())
        other = self.open(place)
        async with other.hold(ALICE) as hold:
            async with asyncio.timeout(SECONDS):
                stored = await store.update_standing(ALICE, _cooling(100))
                await other.update_standing(ALICE, lambda standing: standing.with_paused(5, "manual"))
            assert stored is not None
            assert [one.until for one in stored.cooldowns] == [100]
            account = await hold.read()
        assert account == await store.read(ALICE)
        assert (account.proxy_disabled_at, account.generation) == (5, 0)
        assert account.token.access_token == "first"

    @pytest.mark.asyncio
    async def test_standing_and_credential_are_written_side_by_side(self, store: Store, place: Path) -> None:
        """Neither undoes the other, from two processes' stores at once; whoever follows is told."""
        await store.update(ALICE, lambda _: made_account())
        await store.load(["p"])
        other = self.open(place)

        def kind(number: int) -> Callable[[Standing], Standing]:
            return lambda now: now.with_cooldown(Cooldown(until=100, key=f"k{number}"), 0)

        async def write(number: int) -> None:
            await store.update(ALICE, counted)
            await other.update_standing(ALICE, kind(number))

        await asyncio.gather(*(write(number) for number in range(10)))
        account = await other.read(ALICE)
        assert account.extra["count"] == 10
        assert {one.key for one in account.cooldowns} == {f"k{number}" for number in range(10)}
        assert dict(await store.changes()) == {ALICE: account}

    @pytest.mark.asyncio
    async def test_standing_of_nobody(self, store: Store) -> None:
        """Makes no account; the same standing writes nothing."""
        assert await store.update_standing(BOB, _cooling(100)) is None
        assert dict(await store.load(["p"])) == {}
        await store.update(ALICE, lambda _: made_account())
        await store.load(["p"])
        assert await store.update_standing(ALICE, replace) == await store.read(ALICE)
        assert await store.changes() == {}

    @pytest.mark.asyncio
    async def test_what_is_away_can_not_be_held(self, store: Store, place: Path) -> None:
        """So no refresh is begun; and nothing is made anew and empty."""
        key = AccountKey.of("p", "carol")
        await store.update(ALICE, lambda _: made_account())
        if not await self.take_away(place):
            pytest.skip("this store can't be taken away")
        with pytest.raises(StoreUnavailableError):
            async with store.hold(key):
                pytest.fail("there is nothing to hold")
        with pytest.raises(StoreUnavailableError):
            await store.update_standing(ALICE, _cooling(100))
        await self.bring_back(place)
        async with asyncio.timeout(SECONDS), store.hold(ALICE):
            pass
