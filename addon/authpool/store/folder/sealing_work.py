"""What is done with everything in a folder that may hold secrets: finding it, and writing it sealed or unsealed."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from authpool.accounts.name import decode_name
from authpool.files.atomic_file import FileOperations, unavailable
from authpool.files.kernel_lock import hold_now
from authpool.store import Rewritten, SealedPart
from authpool.store.folder.compare_and_set import rewrite_account
from authpool.store.folder.file_index import is_account, is_temporary
from authpool.store.folder.folder_sealing import FolderSealing
from authpool.store.folder.pool_folder import PoolFolder
from authpool.store.folder.sealed_file import is_set_aside, rewrite_set_aside
from authpool.store.sealing.sealed_value import PREFIX


def parts(accounts: Path) -> list[SealedPart]:
    """Every file of accounts, and every one that was set aside. Raises StoreUnavailableError."""
    with unavailable(accounts):
        return [SealedPart(pool, name) for pool, folder in _pools(accounts) for name in sorted(_names(folder))]


def holds_sealed(accounts: Path) -> bool:
    """Whether anything in the folder is sealed. Raises StoreUnavailableError."""
    with unavailable(accounts):
        return any(_is_sealed(folder / name) for _, folder in _pools(accounts) for name in _names(folder))


def rewrite(folder: PoolFolder, files: FileOperations, name: str, sealing: FolderSealing) -> tuple[bool, Rewritten]:
    """Write a file as it would be written now: whether it was its turn, and what came of it.

    Raises SealedError, StoreUnavailableError.
    """
    with hold_now(folder.path / ".lock") as held:
        if not held:
            return False, "as it was"
        key = sealing.sealing_key()
        if not is_set_aside(name):
            return True, rewrite_account(folder, files, name, key)
        with unavailable(folder.path / name), suppress(FileNotFoundError):
            written = rewrite_set_aside(files, folder.path / name, folder.pool, key, sealing.find)
            return True, "unreadable" if written is None else "written" if written else "as it was"
        return True, "as it was"


def finish(folder: PoolFolder, files: FileOperations) -> tuple[bool, None]:
    """Make durable what was written, and remove what writers that died left behind, secrets in plain perhaps.

    Whoever writes here holds its lock meanwhile, so these are nobody's any more; but for empty ones, from which lock
    files are made. Answers whether it was its turn.
    """
    with hold_now(folder.path / ".lock") as held, unavailable(folder.path):
        if held:
            for name in filter(is_temporary, os.listdir(folder.path)):
                with suppress(FileNotFoundError):
                    if (folder.path / name).lstat().st_size:
                        files.unlink(folder.path / name)
            files.fsync_folder(folder.path)
        return held, None


def _pools(accounts: Path) -> Iterator[tuple[str, Path]]:
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(accounts)):
            if not name.startswith(".") and (accounts / name).is_dir():
                with suppress(ValueError):  # no pool's folder
                    yield decode_name(name), accounts / name


def _names(folder: Path) -> Iterator[str]:
    return filter(lambda name: is_account(name) or is_set_aside(name), os.listdir(folder))


def _is_sealed(path: Path) -> bool:
    with suppress(OSError):
        return PREFIX.encode() in path.read_bytes()
    return False
