"""A sealed folder holds to what every store must, and nothing in it can be read without the key."""

from pathlib import Path

from authpool.store import Store
from authpool.store.folder.store import FolderStore
from authpool.testing.sealing import OPERATOR, SealingConformance
from support.folder_conformance import FolderConformance


class TestFolderSealing(SealingConformance):
    """What a folder does with keys."""

    @staticmethod
    def open(place: Path) -> Store:
        return FolderStore(place / "accounts")


class TestSealedFolderStore(FolderConformance):
    """Files whose secrets are sealed, by processes that all have the key."""

    __test__ = True

    @staticmethod
    def open(place: Path) -> Store:
        store = FolderStore(place / "accounts")
        assert store.seal_with(OPERATOR) == ""
        return store
