"""The account store on a folder: one private file per account, ``accounts/<pool>/<encoded name>.toml``.

Two kernel locks, always taken in this order: the account's (``.<name>.lock``), held by whoever presents its
refresh token and for as long as that takes; and the pool folder's (``.lock``), held around one read, change
and write. Editors know neither: against them stands the comparison right before the rename, which leaves them
the microseconds between the two.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from authpool import hookimpl
from authpool.accounts.account import Account, AccountKey
from authpool.accounts.name import ENCODED_BYTES, encode_name
from authpool.config.config_table import ConfigTable
from authpool.errors import AuthpoolError, UnknownAccountError
from authpool.files.atomic_file import FileOperations, make_folder, unavailable
from authpool.files.blocking import BlockingCalls, in_loop
from authpool.files.kernel_lock import Run, hold_now
from authpool.files.kernel_lock import hold as hold_lock
from authpool.store import Change, Record, StandingChange, StoreFactory
from authpool.store.folder.compare_and_set import change_account, change_accounts
from authpool.store.folder.folder_hold import FolderHold
from authpool.store.folder.folder_watch import FolderWatch
from authpool.store.folder.following import Following
from authpool.store.folder.pool_folder import record_account
from authpool.store.folder.pool_folders import PoolFolders
from authpool.store.folder.sealing_work import finish
from authpool.store.folder.trail_witness import TrailWitness
from authpool.store.folder.unread_files import files_set_aside, unread_files
from authpool.store.unread import UnreadRecord
from authpool.store.updates_many import Changed

type _Decide = Callable[[Mapping[AccountKey, Account | None]], Mapping[AccountKey, Changed]]


class FolderStore(PoolFolders):
    """`authpool.store.Store` on the folder `accounts` of a home; the audit trail and the reload marker are beside it.

    `run` runs blocking file work, as `asyncio.to_thread` does; `files` are the system calls; `watch`: how the
    system is asked to tell of changes, if it is; `sleep` waits before a hold looks twice; `witness` keeps a second
    copy of the trail. `changes` reports what this process wrote as well, a file that is gone when it is so at a second
    look, and a folder that was moved away as StoreUnavailableError, never as accounts that are gone. `update` with
    `replace_broken` and a change to None removes the unreadable record. Set aside, such a record is called
    ``<name>.broken``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        run: Run | None = None,
        files: FileOperations | None = None,
        watch: Callable[[Path], FolderWatch] | None = FolderWatch,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        witness: TrailWitness | None = None,
    ) -> None:
        super().__init__(folder, run or BlockingCalls(str(folder)), files or FileOperations(), witness)
        self._sleep = sleep
        self.following = Following(folder.name, self._run, None if watch is None else watch(folder))

    async def open(self) -> None:
        """A folder needs no beginning: it is made when something is written."""

    async def aclose(self) -> None:
        self.following.close()

    async def load(self, pools: Collection[str]) -> Mapping[AccountKey, Record]:
        return await self.following.load([self._pool(pool) for pool in pools])

    async def changes(self) -> Mapping[AccountKey, Record | None]:
        return await self.following.changes()

    async def wait_for_changes(self) -> None:
        await self.following.wait()

    async def read(self, key: AccountKey) -> Account:
        account: Account = await self._run(self._read, key)
        return account

    @asynccontextmanager
    async def hold(self, key: AccountKey) -> AsyncIterator[FolderHold]:
        await self._run(self._make_folder, key.pool)
        async with hold_lock(self._pool(key.pool).path / _lock_name(key), self._run):
            held = FolderHold(key, partial(self.read, key), partial(self.update, key), self._sleep)
            try:
                yield held
            finally:
                held.lost = True

    async def update(self, key: AccountKey, change: Change, *, replace_broken: bool = False) -> Account | None:
        work = partial(self._update, key, in_loop(change), replace_broken=replace_broken)
        stored: Account | None = await self._turns.take(key.pool, self._pool(key.pool).path, work)
        return stored

    async def update_many(self, pool: str, changes: Mapping[AccountKey, Change]) -> Mapping[AccountKey, Changed]:
        decide = in_loop(partial(_decided, changes))
        work = partial(self._update_many, pool, {key: in_loop(change) for key, change in changes.items()}, decide)
        done: Mapping[AccountKey, Changed]
        done = await self._turns.take(pool, self._pool(pool).path, work)
        return done

    async def update_standing(self, key: AccountKey, change: StandingChange) -> Account | None:
        """In the account's own file, by the folder's lock alone."""
        return await self.update(key, lambda account: account and account.with_standing(change(account.standing)))

    async def clear_set_aside(self, key: AccountKey) -> None:
        """With it go the temporary files of writers that died, which nobody reads: they may hold its tokens."""
        folder = self._pool(key.pool)
        await self._run(self._clear_set_aside, key)
        if folder.present():
            await self._turns.take(key.pool, folder.path, partial(finish, folder, self._files))

    def _clear_set_aside(self, key: AccountKey) -> None:
        folder = self._pool(key.pool)
        asides = files_set_aside(folder, key)
        with unavailable(folder.path):
            for aside in asides:
                self._files.unlink(aside)
            if asides:
                self._files.fsync_folder(folder.path)

    async def unread(self, key: AccountKey) -> Sequence[UnreadRecord]:
        found: list[UnreadRecord] = await self._run(unread_files, self._pool(key.pool), key)
        return found

    def path_of(self, key: AccountKey) -> Path | None:
        """Tell which file holds the account, for messages. Raises StoreUnavailableError."""
        folder = self._pool(key.pool)
        with unavailable(folder.path):
            name = folder.file_of(key)
        return folder.path / name if name else None

    def _read(self, key: AccountKey) -> Account:
        folder = self._pool(key.pool)
        with unavailable(folder.path):
            name = folder.file_of(key)
            seen = folder.look(name) if name else None
        if seen is None:
            raise UnknownAccountError(f"there is no account {key}")
        return record_account(seen.record)

    def _update(self, key: AccountKey, change: Change, *, replace_broken: bool) -> tuple[bool, Account | None]:
        """One try: whether it was its turn, and what is stored then."""
        folder = self._pool(key.pool)
        if not folder.present():
            if change(None) is None:  # nothing to remove: leave no folder behind for a mistyped pool
                return True, None
            self._make_folder(key.pool)
        with hold_now(folder.path / ".lock") as held:
            if not held:
                return False, None
            return True, change_account(folder, self._files, key, change, replace_broken=replace_broken)

    def _update_many(
        self, pool: str, changes: Mapping[AccountKey, Change], decide: _Decide
    ) -> tuple[bool, Mapping[AccountKey, Changed]]:
        """One try, as `_update`."""
        folder = self._pool(pool)
        self._make_folder(pool)
        with hold_now(folder.path / ".lock") as held:
            return held, change_accounts(folder, self._files, changes, decide) if held else {}

    def _make_folder(self, pool: str) -> None:
        folder = self._pool(pool)
        if folder.present():
            return
        for path in (self._folder, folder.path):
            make_folder(self._files, path)


def _decided(
    changes: Mapping[AccountKey, Change], before: Mapping[AccountKey, Account | None]
) -> dict[AccountKey, Changed]:
    after: dict[AccountKey, Changed] = {}
    for key, account in before.items():
        try:
            after[key] = changes[key](account)
        except AuthpoolError as error:
            after[key] = error
    return after


def _lock_name(key: AccountKey) -> str:
    """Name the lock by the folded name: one account, one lock, however it is spelt."""
    encoded = encode_name(key.name)
    if len(encoded) > ENCODED_BYTES:  # no such account can be; its lock excludes all the same
        encoded = hashlib.sha256(encoded.encode()).hexdigest()
    return f".{encoded}.lock"


def _make(home: Path, options: ConfigTable) -> FolderStore:
    options.only()
    return FolderStore(home / "accounts", witness=TrailWitness(home, os.environ))


@hookimpl
def authpool_store(name: str) -> StoreFactory | None:
    """The default store comes through the same door as anybody's."""
    return _make if name == "folder" else None
