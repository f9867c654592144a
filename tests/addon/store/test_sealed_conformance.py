"""A sealed folder holds to what every store must, and nothing in it can be read without the key."""

# ruff: noqa: ASYNC240  a test may look at a local file wherever it is

from pathlib import Path

from authpool.accounts.account import AccountKey
from authpool.store import Store
from authpool.store.folder.store import FolderStore
from authpool.testing.sealing import OPERATOR, SealingConformance
from authpool.testing.stores import StoreConformance


class TestFolderSealing(SealingConformance):
    """What a folder does with keys."""

    @staticmethod
    def open(place: Path) -> Store:
        return FolderStore(place / "accounts")


class TestSealedFolderStore(StoreConformance):
    """Files whose secrets are sealed, by processes that all have the key."""

    @staticmethod
    def open(place: Path) -> Store:
        store = FolderStore(place / "accounts")
        assert store.seal_with(OPERATOR) == ""
        return store

    async def break_record(self, place: Path, key: AccountKey) -> bool:
        path = place / "accounts" / key.pool / f"{key.name}.toml"
        path.parent.mkdir(parents=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text("[tok")
        return True

    async def take_away(self, place: Path) -> bool:
        place.rename(place.with_name("away"))
        return True

    async def bring_back(self, place: Path) -> None:
        place.with_name("away").rename(place)
