"""The account store on a folder: one private file per account, ``accounts/<pool>/<encoded name>.toml``.

Two kernel locks, always taken in this order: the account's (``.<name>.lock``), held by whoever presents its
refresh token and for as long as that takes; and the pool folder's (``.lock``), held around one read, change
and write. Editors know neither: against them stands the comparison right before the rename, which leaves them
the microseconds between the two.
"""

import asyncio
import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from authpool import hookimpl
from authpool.account import Account, AccountKey
from authpool.config.config_table import ConfigTable
from authpool.errors import StoreUnavailableError, UnknownAccountError
from authpool.store import Change, Record, StoreFactory
from authpool.store.account_name import ENCODED_BYTES, decode_name, encode_name
from authpool.store.atomic_file import FileOperations, unavailable
from authpool.store.compare_and_set import change_account
from authpool.store.kernel_lock import Run, hold, hold_short
from authpool.store.pool_folder import PoolFolder, record_account


class FolderStore:
    """`authpool.store.Store` on the folder `accounts` of a home.

    `run` runs blocking file work, as `asyncio.to_thread` does; `files` are the system calls.
    `changes` reports what this process wrote as well, and a folder that was moved away as
    StoreUnavailableError, never as accounts that are gone. `update` with `replace_broken` and a change to
    None removes the unreadable record. Set aside, such a record is called ``<name>.broken``.
    """

    def __init__(self, folder: Path, *, run: Run = asyncio.to_thread, files: FileOperations | None = None) -> None:
        self._folder = folder
        self._run = run
        self._files = files or FileOperations()
        self._pools: dict[str, PoolFolder] = {}
        self._followed: tuple[str, ...] = ()
        self._gates: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    async def load(self, pools: Collection[str]) -> Mapping[AccountKey, Record]:
        followed = [self._pool(pool) for pool in pools]
        await self._run(_sweep_all, followed)
        self._followed = tuple(pools)
        for folder in followed:
            folder.drain()
        return {key: record for folder in followed for key, record in folder.records.copy().items()}

    async def changes(self) -> Mapping[AccountKey, Record | None]:
        followed = [self._pool(pool) for pool in self._followed]
        try:
            await self._run(_sweep_changed, followed)
        except StoreUnavailableError:
            # What other pools have to tell is not held up; the trouble is told as soon as they are quiet.
            if not any(folder.has_changed for folder in followed):
                raise
        # Looked up here, in the event loop: no update that has returned is told in an older state.
        return {key: folder.records.get(key) for folder in followed for key in folder.drain()}

    async def read(self, key: AccountKey) -> Account:
        account: Account = await self._run(self._read, key)
        return account

    @asynccontextmanager
    async def lock(self, key: AccountKey) -> AsyncIterator[None]:
        await self._run(self._make_folder, key.pool)
        async with hold(self._pool(key.pool).path / _lock_name(key), self._run):
            yield

    async def update(self, key: AccountKey, change: Change, *, replace_broken: bool = False) -> Account | None:
        stored: Account | None = await self._run(self._update, key, change, replace_broken=replace_broken)
        return stored

    async def pools(self) -> Collection[str]:
        pools: list[str] = await self._run(self._listed)
        return pools

    def _listed(self) -> list[str]:
        try:
            with unavailable(self._folder), os.scandir(self._folder) as entries:
                names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        except StoreUnavailableError:
            if not self._folder.exists():
                return []
            raise
        pools = []
        for name in names:
            with suppress(ValueError):  # no pool's folder
                pools.append(decode_name(name))
        return pools

    def path_of(self, key: AccountKey) -> Path | None:
        """Tell which file holds the account, for messages. Raises StoreUnavailableError."""
        folder = self._pool(key.pool)
        with unavailable(folder.path):
            name = folder.file_of(key)
        return folder.path / name if name else None

    def _pool(self, pool: str) -> PoolFolder:
        # Encoded like an account's name, so that no pool's name leads out of the folder.
        return self._pools.setdefault(pool, PoolFolder(pool, self._folder / encode_name(pool), self._files))

    def _read(self, key: AccountKey) -> Account:
        folder = self._pool(key.pool)
        with unavailable(folder.path):
            name = folder.file_of(key)
            seen = folder.look(name) if name else None
        if seen is None:
            raise UnknownAccountError(f"there is no account {key}")
        return record_account(seen.record)

    def _update(self, key: AccountKey, change: Change, *, replace_broken: bool) -> Account | None:
        folder = self._pool(key.pool)
        if not folder.present():
            if change(None) is None:  # nothing to remove: leave no folder behind for a mistyped pool
                return None
            self._make_folder(key.pool)
        with hold_short(folder.path / ".lock", self._gates[key.pool]):
            return change_account(folder, self._files, key, change, replace_broken=replace_broken)

    def _make_folder(self, pool: str) -> None:
        folder = self._pool(pool)
        if folder.present():
            return
        for path in (self._folder, folder.path):
            with unavailable(path), suppress(FileExistsError):
                os.mkdir(path, 0o700)
                self._files.fsync_folder(path.parent)


def _sweep_all(folders: Collection[PoolFolder]) -> None:
    for folder in folders:
        with unavailable(folder.path):
            folder.sweep(everything=True)


def _sweep_changed(folders: Collection[PoolFolder]) -> None:
    trouble: StoreUnavailableError | None = None
    for folder in folders:
        try:
            with unavailable(folder.path):
                folder.sweep()
        except StoreUnavailableError as error:
            trouble = error
    if trouble:
        raise trouble


def _lock_name(key: AccountKey) -> str:
    """Name the lock by the folded name: one account, one lock, however it is spelt."""
    encoded = encode_name(key.name)
    if len(encoded) > ENCODED_BYTES:  # no such account can be; its lock excludes all the same
        encoded = hashlib.sha256(encoded.encode()).hexdigest()
    return f".{encoded}.lock"


def _make(home: Path, options: ConfigTable) -> FolderStore:
    options.only()
    return FolderStore(home / "accounts")


@hookimpl
def authpool_store(name: str) -> StoreFactory | None:
    """The default store comes through the same door as anybody's."""
    return _make if name == "folder" else None
