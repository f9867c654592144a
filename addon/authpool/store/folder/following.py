"""What changed in the folders of pools: by what the system tells, and by looking."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from authpool.accounts.account import AccountKey
from authpool.errors import StoreUnavailableError
from authpool.files.atomic_file import unavailable
from authpool.files.kernel_lock import Run
from authpool.store import Record
from authpool.store.folder.folder_watch import Coverage, FolderWatch
from authpool.store.folder.pool_folder import REMOVAL_SECONDS, PoolFolder

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


class Following:
    """Follows the folders of pools that lie in the folder `name`. `watch`: how the system tells, if it is asked to.

    Everything is looked at until somebody waits for changes; then what the system tells of, and the rest piece by
    piece.
    """

    def __init__(self, name: str, run: Run, watch: FolderWatch | None) -> None:
        self._name = name
        self._run = run
        self._watch = watch
        self._followed: tuple[PoolFolder, ...] = ()
        self.watched = False
        """Whether the system tells of what changes."""
        self._unlooked = False
        """Whether everything is to be looked at, whatever the system tells."""
        self._rest: dict[str, list[str]] = {}
        """By pool, the names that are still to be compared in this round."""
        self._pause_seconds = POLL_SECONDS

    async def load(self, followed: Sequence[PoolFolder]) -> Mapping[AccountKey, Record]:
        """As `Store.load`."""
        await self._sweep(followed, everything=True)
        await self._decide(followed)
        self._followed = tuple(followed)
        for folder in followed:
            folder.drain()
        return {key: record for folder in followed for key, record in folder.records.copy().items()}

    async def changes(self) -> Mapping[AccountKey, Record | None]:
        """As `Store.changes`."""
        followed = self._followed
        try:
            await self._look(followed)
        except StoreUnavailableError:
            # What other pools have to tell is not held up; the trouble is told as soon as they are quiet.
            if not any(folder.has_changed for folder in followed):
                raise
        # Looked up here, in the event loop: no update that has returned is told in an older state.
        return {key: folder.records.get(key) for folder in followed for key in folder.drain()}

    async def wait(self) -> None:
        """As `Store.wait_for_changes`."""
        if self._watch is None:
            await asyncio.sleep(self._pause_seconds)
            return
        undecided = any(folder.undecided for folder in self._followed)
        pause = TICK_SECONDS if self.watched else self._pause_seconds
        began = time.monotonic()
        await self._watch.wait(min(pause, REMOVAL_SECONDS) if undecided else pause)
        await asyncio.sleep(max(0.0, min(LULL_SECONDS, pause) - (time.monotonic() - began)))

    def close(self) -> None:
        """Ask the system no more."""
        if self._watch is not None:
            self._watch.close()

    async def _look(self, followed: Sequence[PoolFolder]) -> None:
        if self._watch is None or not self._watch.wanted:
            await self._sweep(followed)
            return
        coverage = await self._run(self._look_if_watched, followed, _now())
        self.watched = coverage is not Coverage.POLLED
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
        if told.keys() & {self._name} and told[self._name] & {folder.path.name for folder in followed}:
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


def _timed[T](path: Path, look: Callable[..., T], *arguments: Any, **keywords: Any) -> tuple[T, float]:
    """Call it, and tell the CPU time it took. Raises StoreUnavailableError."""
    began = time.thread_time()
    with unavailable(path):
        return look(*arguments, **keywords), time.thread_time() - began


def _now() -> float:
    """By the event loop's clock, as every wait here."""
    return asyncio.get_running_loop().time()
