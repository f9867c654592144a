"""The folder store holds to what every store must, and so does one whose holds end by themselves."""

from pathlib import Path
from typing import ClassVar

from authpool.accounts.account import AccountKey
from authpool.clients.client import BrokenClient
from authpool.store import Store
from authpool.testing.stores import StoreConformance
from support.folder_conformance import FolderConformance
from support.memory_store import MemoryStore, Tables


class TestFolderStore(FolderConformance):
    """Files, kernel locks and renames."""

    __test__ = True


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
