"""What a store must hold to for the gateway's own clients and their keys."""

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.clients.client import BrokenClient, ClientEntry, GatewayClient, IssuedKey
from authpool.clients.usage import Usage
from authpool.errors import BrokenClientError, StoreUnavailableError
from authpool.store import GatewayClientChange, Store
from authpool.testing.store_place import SECONDS, StorePlace

_HASH = "0" * 64
_CI = GatewayClient(name="Ci", keys=(IssuedKey(id="a", sha256=_HASH),), extra={"label": "mine"})


def _counted(current: GatewayClient | None) -> GatewayClient:
    client = current or _CI
    return replace(client, extra={**client.extra, "count": client.extra.get("count", 0) + 1})


class GatewayClientConformance(StorePlace):
    """The part of `StoreConformance` that is about who may use the gateway."""

    async def break_client(self, place: Path, client: str) -> bool:
        """Make a client's record one that can't be read; False where that is not possible."""
        del place, client
        return False

    @pytest.mark.asyncio
    async def test_a_client_is_known_to_everybody_in_a_moment(self, store: Store, place: Path) -> None:
        """Added, changed and forgotten, with every field; names compare without case."""
        other = self.open(place)
        assert dict(await store.gateway_clients()) == dict(await other.gateway_clients()) == {}
        assert await store.update_gateway_client("CI", lambda _: _CI) == _CI
        await self._all_see(store, other, {"ci": _CI})
        removed = await other.update_gateway_client("ci", lambda now: now and now.with_removed(1))
        assert removed is not None
        assert removed.extra["label"] == "mine"
        await self._all_see(store, other, {"ci": removed})
        assert await store.update_gateway_client("Ci", lambda _: None) is None
        await self._all_see(store, other, {})
        assert await store.update_gateway_client("ci", lambda now: now) is None

    @pytest.mark.asyncio
    async def test_no_change_of_a_client_is_lost(self, store: Store, place: Path) -> None:
        """From two processes' stores at once; each is called where the event loop runs."""
        stores = [store, self.open(place)]
        threads: set[int] = set()

        def change(current: GatewayClient | None) -> GatewayClient:
            threads.add(threading.get_ident())
            return _counted(current)

        await asyncio.gather(*(stores[number % 2].update_gateway_client("ci", change) for number in range(20)))
        (client,) = (await self.open(place).gateway_clients()).values()
        assert isinstance(client, GatewayClient)
        assert client.extra["count"] == 20
        assert threads == {threading.get_ident()}

    @pytest.mark.asyncio
    async def test_a_change_of_a_client_that_raises_changes_nothing(self, store: Store) -> None:
        """The exception reaches the caller."""
        await store.update_gateway_client("ci", lambda _: _CI)

        def refuse(_current: GatewayClient | None) -> GatewayClient | None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await store.update_gateway_client("ci", refuse)
        assert dict(await store.gateway_clients()) == {"ci": _CI}

    @pytest.mark.asyncio
    async def test_usage_is_added_up_and_brings_no_client_back(self, store: Store, place: Path) -> None:
        """Of all processes; what is counted while a client is removed, or after, makes nobody a client."""
        stores = [store, self.open(place)]
        await store.update_gateway_client("ci", lambda _: _CI)
        used = {"Ci": Usage(requests=2, refused=1, last_used_at=5)}
        await asyncio.gather(*(stores[number % 2].count_usage(used) for number in range(10)))
        await store.count_usage({"ci": Usage(requests=1, last_used_at=3), "nobody": Usage(requests=1)})
        for reader in stores:
            assert dict(await reader.gateway_usage()) == {"ci": Usage(requests=21, refused=10, last_used_at=5)}

        async def count() -> None:
            for _ in range(10):
                await stores[1].count_usage(used)

        counting = asyncio.create_task(count())
        removal: GatewayClientChange = lambda now: now and now.with_removed(1)  # noqa: E731 - for its type
        removed = await store.update_gateway_client("ci", removal)
        await store.update_gateway_client("ci", lambda _: None)
        await counting
        assert removed is not None
        await self._all_see(stores[0], stores[1], {})

    @pytest.mark.asyncio
    async def test_a_broken_client_is_that_and_breaks_no_other(self, store: Store, place: Path) -> None:
        """It is told as broken and not overwritten, but by who means to."""
        await store.update_gateway_client("ci", lambda _: _CI)
        if not await self.break_client(place, "broken"):
            pytest.skip("this store can't be made to hold a broken client")
        entries = await store.gateway_clients()
        assert isinstance(entries["broken"], BrokenClient)
        assert entries["ci"] == _CI
        with pytest.raises(BrokenClientError):
            await store.update_gateway_client("broken", _counted)
        new = replace(_CI, name="broken")
        assert await store.update_gateway_client("broken", lambda _: new, replace_broken=True) == new
        await self._all_see(store, self.open(place), {"broken": new, "ci": _CI})

    @pytest.mark.asyncio
    async def test_a_store_that_is_away_does_not_say_that_there_are_no_clients(self, store: Store, place: Path) -> None:
        """For then a gateway would ask for no keys any more."""
        await store.update_gateway_client("ci", lambda _: _CI)
        assert dict(await store.gateway_clients()) == {"ci": _CI}
        if not await self.take_away(place):
            pytest.skip("this store can't be taken away")
        with pytest.raises(StoreUnavailableError):
            await store.gateway_clients()
        with pytest.raises(StoreUnavailableError):
            await store.update_gateway_client("ci", _counted)
        await self.bring_back(place)
        assert dict(await store.gateway_clients()) == {"ci": _CI}

    async def _all_see(self, store: Store, other: Store, expected: dict[str, ClientEntry]) -> None:
        deadline = time.monotonic() + SECONDS
        while [dict(await one.gateway_clients()) for one in (store, other)] != [expected, expected]:
            assert time.monotonic() < deadline, "a change of a client was never seen"
            await asyncio.sleep(0.02)
