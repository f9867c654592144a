"""The folder store holds to what every store must."""

from pathlib import Path

from authpool.store import Store
from authpool.store.folder import FolderStore
from authpool.testing.stores import StoreConformance


class TestFolderStore(StoreConformance):
    """Files, kernel locks and renames."""

    @staticmethod
    def open(place: Path) -> Store:
        return FolderStore(place / "accounts")
