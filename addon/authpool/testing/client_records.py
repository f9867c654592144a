"""What every store must keep of OAuth clients; a part of `authpool.testing.stores.StoreConformance`."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.store import ClientChange, Store
from authpool.store.client_record import ClientRecord, Rejection
from authpool.testing.store_place import StorePlace

CLIENT = ClientRecord(client="c", extra={"label": "mine"})


class ClientRecordConformance(StorePlace):
    """Whatever a process notes of a client counts for all."""

    @pytest.mark.asyncio
    async def test_what_is_known_of_clients_is_counted_by_everybody(self, store: Store, place: Path) -> None:
        """From two processes' stores at once: no rejection is lost, and each of them reads all."""
        stores = [store, self.open(place)]
        assert await store.read_client("c") is None
        assert dict(await store.clients()) == {}

        def noted(number: int) -> ClientChange:
            one = Rejection(account=AccountKey.of("p", f"user{number}"), fingerprint="00000000", at=number)
            return lambda now: replace(now or CLIENT, rejections=(*(now or CLIENT).rejections, one))

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
            stored = await other.update_client("c", lambda now, at=number: replace(now or CLIENT, accepted_at=at))  # type: ignore[misc]
            assert await store.read_client("c") == stored
            assert dict(await store.clients()) == {"c": stored}
