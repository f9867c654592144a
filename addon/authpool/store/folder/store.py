"""The account store on a folder: one private file per account, ``accounts/<pool>/<encoded name>.toml``.

Two kernel locks, always taken in this order: the account's (``.<name>.lock``), held by whoever presents its
refresh token and for as long as that takes; and the pool folder's (``.lock``), held around one read, change
and write. Editors know neither: against them stands the comparison right before the rename, which leaves them
the microseconds between the two.
"""

import asyncio
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from authpool import hookimpl
from authpool.accounts.account import Account, AccountKey
from authpool.accounts.name import ENCODED_BYTES, decode_name, encode_name
from authpool.clients.client import ClientEntry, GatewayClient
from authpool.clients.usage import Usage
from authpool.config.config_table import ConfigTable
from authpool.errors import SealedError, StoreUnavailableError, UnknownAccountError
from authpool.files.atomic_file import FileOperations, unavailable
from authpool.files.blocking import BlockingCalls, in_loop
from authpool.files.file_owner import give_to_owner
from authpool.files.kernel_lock import SHORT_WAIT_SECONDS, Run, hold_now
from authpool.files.kernel_lock import hold as hold_lock
from authpool.store import (
    Change,
    ClientChange,
    GatewayClientChange,
    Record,
    Rewritten,
    SealedPart,
    StandingChange,
    StoreFactory,
)
from authpool.store.audit import Entry
from authpool.store.client_record import ClientRecord
from authpool.store.folder import sealing_work
from authpool.store.folder.client_folder import ClientFolder
from authpool.store.folder.compare_and_set import change_account
from authpool.store.folder.folder_hold import FolderHold
from authpool.store.folder.folder_sealing import FolderSealing
from authpool.store.folder.folder_watch import Coverage, FolderWatch
from authpool.store.folder.gateway_client_folder import GatewayClientFolder
from authpool.store.folder.key_file import KeyFile
from authpool.store.folder.pool_folder import REMOVAL_SECONDS, PoolFolder, record_account
from authpool.store.folder.reload_marker import ask_for_reload, last_forced, last_request
from authpool.store.folder.trail_files import TrailFiles
from authpool.store.folder.trail_witness import TrailWitness
from authpool.store.sealing.key_ring import KeyRing, OperatorKey
from authpool.store.sealing.sealed_value import Place

PIECE = 256
"""So many files are looked at in one call: a thing of milliseconds, so that nobody waits for the interpreter."""
NET_PIECE = 128
"""So many are compared at each tick in case that something was not told."""
TICK_SECONDS = 0.5
"""So often somebody who follows comes by, where the system tells what changed; and a piece is compared all the same."""
LULL_SECONDS = 0.1
"""Of many changes, those of so long are taken in together."""
POLL_SECONDS = 0.25
POLL_SHARE = 0.1
"""Where the system does not tell, everything is looked at this often, or as often as takes this share of a core."""
BUSY_SECONDS = (0.005, 0.05)


class FolderStore:
    """`authpool.store.Store` on the folder `accounts` of a home; the audit trail and the reload marker are beside it.

    `run` runs blocking file work, as `asyncio.to_thread` does; `files` are the system calls; `watch`: how the
    system is asked to tell of changes, if it is; `sleep` waits before a hold looks twice; `witness` keeps a second
    copy of the trail. `changes` looks at everything
    until somebody waits for changes; then at what the system tells of, and at the rest piece by piece. It reports what
    this process wrote as well, a file that is gone when it is so at a second look, and a folder that was moved away as
    StoreUnavailableError, never as accounts that are gone. `update` with `replace_broken` and a change to None removes
    the unreadable record. Set aside, such a record is called ``<name>.broken``.
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
        self._folder = folder
        self._run: Run = run or BlockingCalls(str(folder))
        self._files = files or FileOperations()
        self._sleep = sleep
        self._pools: dict[str, PoolFolder] = {}
        self._clients = ClientFolder(folder, self._files)
        self._home = folder.parent
        self._gateway_clients = GatewayClientFolder(folder.parent, self._files)
        self._trail = TrailFiles(folder.parent)
        self._witness = witness
        self._sealing: FolderSealing | None = None
        self._followed: tuple[str, ...] = ()
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Lock]] = WeakKeyDictionary()
        self._watch = None if watch is None else watch(folder)
        self._watched = False
        self._unlooked = False
        """Whether everything is to be looked at, whatever the system tells."""
        self._rest: dict[str, list[str]] = {}
        """By pool, the names that are still to be compared in this round."""
        self._pause_seconds = POLL_SECONDS

    async def open(self) -> None:
        """A folder needs no beginning: it is made when something is written."""

    async def load(self, pools: Collection[str]) -> Mapping[AccountKey, Record]:
        followed = [self._pool(pool) for pool in pools]
        await self._sweep(followed, everything=True)
        await self._decide(followed)
        self._followed = tuple(pools)
        for folder in followed:
            folder.drain()
        return {key: record for folder in followed for key, record in folder.records.copy().items()}

    async def changes(self) -> Mapping[AccountKey, Record | None]:
        followed = [self._pool(pool) for pool in self._followed]
        try:
            await self._look(followed)
        except StoreUnavailableError:
            # What other pools have to tell is not held up; the trouble is told as soon as they are quiet.
            if not any(folder.has_changed for folder in followed):
                raise
        # Looked up here, in the event loop: no update that has returned is told in an older state.
        return {key: folder.records.get(key) for folder in followed for key in folder.drain()}

    async def wait_for_changes(self) -> None:
        if self._watch is None:
            await asyncio.sleep(self._pause_seconds)
            return
        undecided = any(self._pool(pool).undecided for pool in self._followed)
        pause = TICK_SECONDS if self._watched else self._pause_seconds
        began = time.monotonic()
        await self._watch.wait(min(pause, REMOVAL_SECONDS) if undecided else pause)
        await asyncio.sleep(max(0.0, min(LULL_SECONDS, pause) - (time.monotonic() - began)))

    async def aclose(self) -> None:
        if self._watch is not None:
            self._watch.close()

    # --- looking ----------------------------------------------------------------------------------------------

    async def _look(self, followed: Sequence[PoolFolder]) -> None:
        if self._watch is None or not self._watch.wanted:
            await self._sweep(followed)
            return
        coverage = await self._run(self._look_if_watched, followed, _now())
        self._watched = coverage is not Coverage.POLLED
        self._unlooked |= coverage is not Coverage.WATCHED  # what changed before it began was not told
        if self._unlooked:
            await self._sweep(followed)
            self._unlooked = False

    def _look_if_watched(self, followed: Sequence[PoolFolder], now: float) -> Coverage:
        """Keep the watch up; and where it tells of everything, look at that: one call, for it is made all the time."""
        assert self._watch is not None  # noqa: S101 - only called where there is one
        coverage = self._watch.keep_up([folder.path for folder in followed])
        if coverage is Coverage.WATCHED and not self._unlooked:
            self._look_at_told(followed, now)
        return coverage

    def _look_at_told(self, followed: Sequence[PoolFolder], now: float) -> None:
        """Look at what the system told of, what is to be looked at once more, and a piece of the rest."""
        assert self._watch is not None  # noqa: S101 - only called where there is one
        told = self._watch.take()
        trouble: StoreUnavailableError | None = None
        if told.keys() & {self._folder.name} and told[self._folder.name] & {folder.path.name for folder in followed}:
            self._watch.restart()  # one of the folders came or went
        for folder in followed:
            names = told.get(folder.path.name, set()) | folder.due(now)
            try:
                with unavailable(folder.path):
                    folder.look_at(names, now)
                    self._compare_a_piece(folder, now)
            except StoreUnavailableError as error:
                self._watch.miss(folder.path.name, names)
                trouble = error
        if trouble:
            raise trouble

    def _compare_a_piece(self, folder: PoolFolder, now: float) -> None:
        """The net: what changed a while ago was to be told, and was not."""
        rest = self._rest.get(folder.pool) or folder.names()
        piece, self._rest[folder.pool] = rest[:NET_PIECE], rest[NET_PIECE:]
        different = folder.look_at(piece, now)
        if self._watch is not None and any(seen.old for seen in different):
            self._watch.distrust()

    async def _sweep(self, folders: Sequence[PoolFolder], *, everything: bool = False) -> None:
        """Look at every file, piece by piece; note what that costs."""
        trouble: StoreUnavailableError | None = None
        began, used = time.monotonic(), 0.0
        for folder in folders:
            try:
                used += await self._sweep_one(folder, everything=everything)
            except StoreUnavailableError as error:
                if everything:
                    raise
                trouble = error
        self._pause_seconds = max(POLL_SECONDS, used / POLL_SHARE, time.monotonic() - began)
        if trouble:
            raise trouble

    async def _sweep_one(self, folder: PoolFolder, *, everything: bool) -> float:
        names, used = await self._run(_timed, folder.path, folder.names, clean=everything)
        for start in range(0, len(names), PIECE):
            piece = names[start : start + PIECE]
            _, seconds = await self._run(_timed, folder.path, folder.look_at, piece, _now(), everything=everything)
            used += seconds
        return float(used)

    async def _decide(self, followed: Sequence[PoolFolder]) -> None:
        """A load may find a moment without a file, too: what was known and is missing is looked at once more."""
        if any(folder.missing for folder in followed):
            await asyncio.sleep(REMOVAL_SECONDS)
            for folder in followed:
                await self._run(_timed, folder.path, folder.look_at, list(folder.missing), _now())

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
        """As `Store.update`. Waits at most 10 s for others: nobody takes longer, unless stopped, or a disk hangs."""
        work = partial(self._update, key, in_loop(change), replace_broken=replace_broken)
        stored: Account | None = await self._in_turn(key.pool, self._pool(key.pool).path, work)
        return stored

    async def update_standing(self, key: AccountKey, change: StandingChange) -> Account | None:
        """In the account's own file, by the folder's lock alone."""
        return await self.update(key, lambda account: account and account.with_standing(change(account.standing)))

    async def _in_turn(self, name: str, path: Path, work: Callable[[], tuple[bool, Any]]) -> Any:
        """Do what wants the lock of the folder at `path`, once nobody else has it; `name` is that folder's."""
        deadline = _now() + SHORT_WAIT_SECONDS
        async with self._gate(name):  # of this process one at a time asks for the lock
            while True:
                done, result = await self._run(work)
                if done:
                    return result
                if _now() > deadline:
                    raise StoreUnavailableError(f"{path / '.lock'} is held by a process that does not move on")
                await asyncio.sleep(random.uniform(*BUSY_SECONDS))  # noqa: S311  no secret, only keeps waiters apart

    async def read_client(self, client: str) -> ClientRecord | None:
        record: ClientRecord | None = await self._run(self._clients.read, client)
        return record

    async def clients(self) -> Mapping[str, ClientRecord]:
        records: Mapping[str, ClientRecord] = await self._run(self._clients.read_all)
        return records

    async def update_client(self, client: str, change: ClientChange) -> ClientRecord:
        work = partial(self._clients.update, client, in_loop(change))
        stored: ClientRecord = await self._in_turn(self._clients.path.name, self._clients.path, work)
        return stored

    async def gateway_clients(self) -> Mapping[str, ClientEntry]:
        entries: Mapping[str, ClientEntry] = await self._run(self._gateway_clients.read_all)
        return entries

    async def update_gateway_client(
        self, client: str, change: GatewayClientChange, *, replace_broken: bool = False
    ) -> GatewayClient | None:
        work = partial(self._gateway_clients.update, client, in_loop(change), replace_broken=replace_broken)
        stored: GatewayClient | None = await self._in_turn("clients of the gateway", self._gateway_clients.path, work)
        return stored

    async def count_usage(self, counts: Mapping[str, Usage]) -> None:
        work = partial(self._gateway_clients.count_usage, counts)
        await self._in_turn("clients of the gateway", self._gateway_clients.path, work)

    async def gateway_usage(self) -> Mapping[str, Usage]:
        usage: Mapping[str, Usage] = await self._run(self._gateway_clients.usage)
        return usage

    def append(self, entry: Entry) -> None:
        self._trail.append(entry)
        if self._witness is not None:
            self._witness.append(entry)

    async def entries(self, newest: int | None = None) -> list[Entry]:
        entries: list[Entry] = await self._run(self._trail.newest, newest)
        return entries

    async def entries_since(self, position: object) -> tuple[list[Entry], object]:
        told: tuple[list[Entry], object] = await self._run(self._trail.since, position)
        if position is not None or self._witness is None:
            return told
        entries: list[Entry] = await self._run(self._witness.complete, told[0])
        return entries, told[1]

    async def request_reload(self) -> int:
        number: int = await self._run(ask_for_reload, self._home)
        return number

    async def force_reload(self) -> int:
        number: int = await self._run(ask_for_reload, self._home, forced=True)
        return number

    async def forced_reload(self) -> int:
        number: int = await self._run(last_forced, self._home)
        return number

    async def reload_request(self) -> int:
        number: int = await self._run(last_request, self._home)
        return number

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

    # --- sealing ----------------------------------------------------------------------------------------------

    def seal_with(self, operator: OperatorKey | None, *, no_key: str = "") -> str:
        file = KeyFile(self._home, self._files)
        sealing = None  # as far as anybody knows nothing is sealed here, nor shall be
        if operator is not None or file.read() is not None:
            holds_sealed = partial(sealing_work.holds_sealed, self._folder)
            sealing = FolderSealing(file, operator, no_key=no_key, holds_sealed=holds_sealed)
        why = "" if sealing is None else sealing.locked()
        if not why or self._sealing is None:
            self._sealing = sealing
            for folder in list(self._pools.values()):
                folder.sealing = sealing
        return why

    @property
    def opener(self) -> str:
        operator = None if self._sealing is None else self._sealing.operator
        return "" if operator is None else operator.fingerprint

    async def locked(self) -> str:
        why: str = "" if self._sealing is None else await self._run(self._sealing.locked)
        return why

    async def change_keys(self, change: Callable[[KeyRing], KeyRing], openers: Sequence[OperatorKey] = ()) -> KeyRing:
        ring: KeyRing = await self._run(self._sealed().change, change, openers)
        return ring

    async def parts(self) -> Sequence[SealedPart]:
        found: list[SealedPart] = await self._run(sealing_work.parts, self._folder)
        return found

    async def rewrite(self, part: SealedPart) -> Rewritten:
        folder = self._pool(part.pool)
        work = partial(sealing_work.rewrite, folder, self._files, part.name, self._sealed())
        came_of_it: Rewritten = await self._in_turn(part.pool, folder.path, work)
        return came_of_it

    async def finish_rewriting(self) -> None:
        for pool in await self.pools():
            folder = self._pool(pool)
            await self._in_turn(pool, folder.path, partial(sealing_work.finish, folder, self._files))

    async def seal_text(self, place: Place, text: str) -> str | None:
        if self._sealing is None:
            return None
        key = await self._run(self._sealing.sealing_key)
        return None if key is None else key.seal(place, text.encode())

    async def open_text(self, place: Place, value: str) -> str:
        text: str = await self._run(self._sealed().text, place, value)
        return text

    def _sealed(self) -> FolderSealing:
        if self._sealing is None:
            raise SealedError("there is no key to seal with, or to open what is sealed: authpool.toml has no seal_key")
        return self._sealing

    def path_of(self, key: AccountKey) -> Path | None:
        """Tell which file holds the account, for messages. Raises StoreUnavailableError."""
        folder = self._pool(key.pool)
        with unavailable(folder.path):
            name = folder.file_of(key)
        return folder.path / name if name else None

    def _pool(self, pool: str) -> PoolFolder:
        # Encoded like an account's name, so that no pool's name leads out of the folder.
        folder = self._pools.get(pool)
        if folder is None:
            made = PoolFolder(pool, self._folder / encode_name(pool), self._files)
            folder = self._pools.setdefault(pool, made)
            folder.sealing = self._sealing  # once it is in its place, or one that comes meanwhile would pass it by
        return folder

    def _read(self, key: AccountKey) -> Account:
        folder = self._pool(key.pool)
        with unavailable(folder.path):
            name = folder.file_of(key)
            seen = folder.look(name) if name else None
        if seen is None:
            raise UnknownAccountError(f"there is no account {key}")
        return record_account(seen.record)

    def _gate(self, pool: str) -> asyncio.Lock:
        gates = self._gates.setdefault(asyncio.get_running_loop(), {})
        return gates.setdefault(pool, asyncio.Lock())

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

    def _make_folder(self, pool: str) -> None:
        folder = self._pool(pool)
        if folder.present():
            return
        for path in (self._folder, folder.path):
            with unavailable(path), suppress(FileExistsError):
                os.mkdir(path, 0o700)
                give_to_owner(path, path.parent)
                self._files.fsync_folder(path.parent)


def _timed[T](path: Path, look: Callable[..., T], *arguments: Any, **keywords: Any) -> tuple[T, float]:
    """Call it, and tell the CPU time it took. Raises StoreUnavailableError."""
    began = time.thread_time()
    with unavailable(path):
        return look(*arguments, **keywords), time.thread_time() - began


def _now() -> float:
    """By the event loop's clock, as every wait here."""
    return asyncio.get_running_loop().time()


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
