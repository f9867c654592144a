"""The folder store holds to what every store must, and so does one whose holds end by themselves."""

# ruff: noqa: ASYNC240  a test may look at a local file wherever it is

from pathlib import Path
from typing import ClassVar

from authpool.accounts.account import AccountKey
from authpool.clients.client import BrokenClient
from authpool.store import Store
from authpool.store.folder.store import FolderStore
from authpool.testing.stores import StoreConformance
from support.memory_store import MemoryStore, Tables


class TestFolderStore(StoreConformance):
    """Files, kernel locks and renames."""

    @staticmethod
    def open(place: Path) -> Store:
        return FolderStore(place / "accounts")

    async def break_record(self, place: Path, key: AccountKey) -> bool:
        path = place / "accounts" / key.pool / f"{key.name}.toml"
        path.parent.mkdir(parents=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text("[tok")
        return True

    async def break_client(self, place: Path, client: str) -> bool:
        path = place / "clients" / f"{client}.toml"
        path.touch(mode=0o600)
        path.write_text("[key")
        return True

    async def take_away(self, place: Path) -> bool:
        place.rename(place.with_name("away"))
        return True

    async def bring_back(self, place: Path) -> None:
        place.with_name("away").rename(place)


class TestMemoryStore(StoreConformance):
    """Tables in memory, and claims that end by themselves."""

    shared = False
    _places: ClassVar[dict[Path, Tables]] = {}

    @staticmethod
    def open(place: Path) -> Store:
        tables = TestMemoryStore._places.setdefault(place, Tables())
        return MemoryStore(tables, claim_seconds=1.0)

    async def break_record(self, place: Path, key: AccountKey) -> bool:
        self._places[place].broken.add(key)
        self._places[place].touch(key)
        return True

    async def break_client(self, place: Path, client: str) -> bool:
        self._places[place].gateway_clients[client] = BrokenClient(name=client, reason="it was broken")
        return True

    async def take_away(self, place: Path) -> bool:
        self._places[place].away = True
        return True

    async def bring_back(self, place: Path) -> None:
        self._places[place].away = False

    async def cut(self, place: Path) -> bool:
        self._places[place].connection += 1
        return True
