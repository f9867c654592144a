"""What a store conformance test does to a folder's store behind its back."""

# ruff: noqa: ASYNC240  a test may look at a local file wherever it is

from pathlib import Path

from authpool.accounts.account import AccountKey
from authpool.store import Store
from authpool.store.folder.store import FolderStore
from authpool.testing.stores import StoreConformance


class FolderConformance(StoreConformance):
    """Files, kernel locks and renames. A class of its own derives from it: this one is not collected."""

    __test__ = False

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
