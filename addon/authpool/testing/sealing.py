"""What a store that keeps its secrets sealed must hold to, beside all that `StoreConformance` asks for."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from authpool.accounts.account import Account, OAuthClient, SealedAccount, Token
from authpool.errors import BrokenAccountError, SealedError
from authpool.store import SealsSecrets, Store
from authpool.store.sealing.key_ring import KeyRing, OperatorKey
from authpool.store.sealing.sealed_value import Place
from authpool.testing.store_place import ALICE, BOB, StorePlace, counted

OPERATOR = OperatorKey(bytes(range(32)))
OTHER = OperatorKey(bytes(range(50, 82)))

_SECRET = "SECRET"


def _account(name: str = "alice") -> Account:
    """An account whose secrets all have a word in common."""
    return Account(
        pool="p",
        name=name,
        token=Token(access_token=f"{_SECRET}-1", refresh_token=f"{_SECRET}-2", extra={"id_token": f"{_SECRET}-3"}),
        client=OAuthClient(client_id="c", client_secret=f"{_SECRET}-4"),
        extra={"password": f"{_SECRET}-5"},
    )


class SealingConformance(StorePlace):
    """Run by pytest for each subclass. `open` opens a store that was given no key; override `at_rest` where needed."""

    async def at_rest(self, place: Path) -> bytes:
        """Everything that somebody finds who has the disk."""
        return b"\n".join(path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file())  # noqa: ASYNC240 - in a test

    def open_sealed(self, place: Path, operator: OperatorKey | None = OPERATOR) -> tuple[Store, SealsSecrets]:
        """A store with that operator's key: the same object in both of its roles."""
        store = self.open(place)
        assert isinstance(store, SealsSecrets)
        store.seal_with(operator, no_key="there is no key")
        return store, store

    async def _rewrite(self, seals: SealsSecrets, change: Callable[[KeyRing], KeyRing]) -> None:
        await seals.change_keys(change)
        for part in await seals.parts():
            await seals.rewrite(part)
        await seals.finish_rewriting()

    @pytest.mark.asyncio
    async def test_no_secret_is_at_rest(self, place: Path) -> None:
        """And whoever has the operator's key reads all of it."""
        store, _ = self.open_sealed(place)
        await store.update(ALICE, lambda _: _account())
        assert _SECRET.encode() not in await self.at_rest(place)
        assert await self.open_sealed(place)[0].read(ALICE) == _account()

    @pytest.mark.asyncio
    @pytest.mark.parametrize("operator", (None, OTHER))
    async def test_without_the_key_nothing_is_read_broken_or_written(
        self, place: Path, operator: OperatorKey | None
    ) -> None:
        """Accounts are told as sealed."""
        await self.open_sealed(place)[0].update(ALICE, lambda _: _account())
        before = await self.at_rest(place)
        store, seals = self.open_sealed(place, operator)
        assert await seals.locked() != ""
        assert isinstance((await store.load(["p"]))[ALICE], SealedAccount)
        for broken_too in (False, True):
            for key, name in ((ALICE, "alice"), (BOB, "bob")):
                with pytest.raises(SealedError):
                    await store.update(key, lambda _, name=name: _account(name), replace_broken=broken_too)  # type: ignore[misc]
        with pytest.raises(SealedError):
            await seals.change_keys(lambda ring: ring)
        assert await self.at_rest(place) == before
        assert await self.open_sealed(place)[0].read(ALICE) == _account()

    @pytest.mark.asyncio
    async def test_what_is_in_plain_is_read_and_sealed(self, place: Path) -> None:
        """When it is written next, or by rewriting; and it can all be had in plain again."""
        for key, name in ((ALICE, "alice"), (BOB, "bob")):
            await self.open(place).update(key, lambda _, name=name: _account(name))  # type: ignore[misc]
        assert _SECRET.encode() in await self.at_rest(place)
        store, seals = self.open_sealed(place)
        assert dict(await store.load(["p"])) == {ALICE: _account(), BOB: _account("bob")}
        await store.update(ALICE, counted)
        await self._rewrite(seals, lambda ring: ring.turned(sealing=True))
        assert _SECRET.encode() not in await self.at_rest(place)
        assert await store.changes() == {ALICE: await store.read(ALICE)} or await store.read(BOB) == _account("bob")
        await self._rewrite(seals, lambda ring: ring.turned(sealing=False))
        assert await self.open(place).read(BOB) == _account("bob")

    @pytest.mark.asyncio
    async def test_updates_and_rewriting_beside_each_other_lose_nothing(self, place: Path) -> None:
        """Whatever keys are changed meanwhile: each update counts, and everybody reads everything."""
        store, _ = self.open_sealed(place)
        _, seals = self.open_sealed(place)
        await store.update(ALICE, lambda _: _account())
        await store.update(BOB, lambda _: _account("bob"))

        async def write() -> None:
            for _ in range(20):
                await store.update(ALICE, counted)

        writing = asyncio.create_task(write())
        sealing = False
        while not writing.done():
            await self._rewrite(seals, lambda ring: ring.with_new_key(0))
            await self._rewrite(seals, lambda ring, on=sealing: ring.turned(sealing=on))  # type: ignore[misc]
            sealing = not sealing
        await writing
        assert (await store.read(ALICE)).extra["count"] == 20
        assert await self.open_sealed(place)[0].read(BOB) == _account("bob")

    @pytest.mark.asyncio
    async def test_another_operator_s_key_takes_over(self, place: Path) -> None:
        """First beside the former one, then alone."""
        store, seals = self.open_sealed(place)
        await store.update(ALICE, lambda _: _account())
        await seals.change_keys(lambda ring: ring, [OPERATOR, OTHER])
        for operator in (OPERATOR, OTHER):
            assert await self.open_sealed(place, operator)[0].read(ALICE) == _account()
        await self.open_sealed(place, OTHER)[1].change_keys(lambda ring: ring, [OTHER])
        assert await self.open_sealed(place, OTHER)[0].read(ALICE) == _account()
        with pytest.raises(SealedError):
            await self.open_sealed(place)[0].read(ALICE)

    @pytest.mark.asyncio
    async def test_what_is_kept_elsewhere_opens_in_its_place_only(self, place: Path) -> None:
        """For the program's other files."""
        _, seals = self.open_sealed(place)
        here, there = Place("unclaimed", "p", "one"), Place("unclaimed", "p", "two")
        value = await seals.seal_text(here, _SECRET)
        assert value is not None
        assert _SECRET not in value
        assert await self.open_sealed(place)[1].open_text(here, value) == _SECRET
        with pytest.raises(BrokenAccountError):
            await seals.open_text(there, value)
