"""The store on a folder: one private file per account."""

from authpool.store.folder.store import authpool_store

__all__ = ["authpool_store"]
