"""What a store's audit trail, and its requests to reload, must hold to."""

from pathlib import Path

import pytest

from authpool.store import Store
from authpool.store.audit import Entry, Process
from authpool.testing.store_place import StorePlace


def _entry(number: int) -> Entry:
    me = Process(pid=number, kind="gateway")
    return Entry(time=number, event="added", account="p/alice", reason="", process=me, fingerprint=None, generation=0)


class TrailConformance(StorePlace):
    """The part of `StoreConformance` that is about what is told, rather than kept."""

    @pytest.mark.asyncio
    async def test_the_trail_keeps_the_order(self, store: Store, place: Path) -> None:
        """Of what both processes append; everybody reads all of it, or the newest."""
        other = self.open(place)
        await other.open()
        assert await store.entries() == []
        for number in range(1, 7):
            (store, other)[number % 2].append(_entry(number))
        await store.aclose()
        await other.aclose()
        for one in (store, other, self.open(place)):
            assert await one.entries() == [_entry(number) for number in range(1, 7)]
            assert await one.entries(2) == [_entry(5), _entry(6)]

    @pytest.mark.asyncio
    async def test_the_trail_is_followed(self, store: Store, place: Path) -> None:
        """From the start, and then only what was appended since; nothing is missed."""
        writer = self.open(place)
        entries, position = await store.entries_since(None)
        assert entries == []
        told: list[Entry] = []
        for number in range(1, 7):
            (store, writer)[number % 2].append(_entry(number))
            await (store, writer)[number % 2].aclose()
            entries, position = await store.entries_since(position)
            told += entries
        assert list(dict.fromkeys(told)) == [_entry(number) for number in range(1, 7)]
        again, _ = await self.open(place).entries_since(None)
        assert list(dict.fromkeys(again)) == list(dict.fromkeys(told))

    @pytest.mark.asyncio
    async def test_a_request_to_reload_reaches_everybody(self, store: Store, place: Path) -> None:
        """Numbered upwards, whoever asks."""
        other = self.open(place)
        assert await store.reload_request() == 0
        first = await store.request_reload()
        assert await other.reload_request() == await store.reload_request() == first > 0
        second = await other.request_reload()
        assert await store.reload_request() == second > first
