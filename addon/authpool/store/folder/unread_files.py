"""The files of an account that can't be read as one: what it is now, and what was set aside of it."""

import os
from collections.abc import Iterator
from pathlib import Path

from authpool.accounts.account import AccountKey, BrokenAccount, SealedAccount
from authpool.accounts.name import decode_name
from authpool.errors import SealedError
from authpool.files.atomic_file import unavailable
from authpool.store.folder.account_file import opened
from authpool.store.folder.pool_folder import PoolFolder
from authpool.store.folder.sealed_file import aside_of, opened_content
from authpool.store.sealing.sealed_value import UnsealError
from authpool.store.unread import UnreadRecord, found_in


def files_set_aside(folder: PoolFolder, key: AccountKey) -> list[Path]:
    """Every file that was set aside of an account, however its name is spelled. Raises StoreUnavailableError."""
    if not folder.present():
        return []
    with unavailable(folder.path):
        return [folder.path / name for name in sorted(os.listdir(folder.path)) if _is_of(name, key)]


def unread_files(folder: PoolFolder, key: AccountKey) -> list[UnreadRecord]:
    """What is found in the files of an account that can't be read as one. Raises StoreUnavailableError."""
    return list(_found(folder, key))


def _found(folder: PoolFolder, key: AccountKey) -> Iterator[UnreadRecord]:
    with unavailable(folder.path):
        name = folder.file_of(key)
        seen = folder.look(name) if name else None
    if name is not None and seen is not None and isinstance(seen.record, BrokenAccount):
        if isinstance(seen.record, SealedAccount):
            yield UnreadRecord(where=name, trouble=seen.record.reason)
        else:
            yield _look(folder, folder.path / name, key)
    for path in files_set_aside(folder, key):
        yield _look(folder, path, key)


def _look(folder: PoolFolder, path: Path, key: AccountKey) -> UnreadRecord:
    sealing = folder.sealing
    try:
        content = opened_content(path, folder.pool, None if sealing is None else sealing.find)
    except SealedError as error:
        return UnreadRecord(where=path.name, trouble=str(error))
    except UnsealError:
        return UnreadRecord(where=path.name, trouble="what is sealed in it is damaged")
    if content is None:
        return UnreadRecord(where=path.name, trouble="it can't be read")
    return found_in(content, path.name, lambda document: opened(document, key, sealing))


def _is_of(name: str, key: AccountKey) -> bool:
    stem = aside_of(name)
    try:
        return stem is not None and decode_name(stem).casefold() == key.name
    except ValueError:
        return False
