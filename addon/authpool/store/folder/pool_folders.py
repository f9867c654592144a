"""The folders of all pools, and the keys that what lies in them is sealed with."""

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from authpool.accounts.name import decode_name, encode_name
from authpool.errors import SealedError, StoreUnavailableError
from authpool.files.atomic_file import FileOperations, unavailable
from authpool.files.kernel_lock import Run
from authpool.store import Rewritten, SealedPart
from authpool.store.folder import sealing_work
from authpool.store.folder.file_index import SUFFIX
from authpool.store.folder.folder_sealing import FolderSealing
from authpool.store.folder.home_records import HomeRecords
from authpool.store.folder.key_file import KeyFile
from authpool.store.folder.pool_folder import PoolFolder
from authpool.store.folder.trail_witness import TrailWitness
from authpool.store.sealing.key_ring import KeyRing, OperatorKey
from authpool.store.sealing.sealed_value import Place


class PoolFolders(HomeRecords):
    """`authpool.store.ListsPools` and `authpool.store.SealsSecrets` on folders."""

    def __init__(self, folder: Path, run: Run, files: FileOperations, witness: TrailWitness | None) -> None:
        super().__init__(folder, run, files, witness)
        self._pools: dict[str, PoolFolder] = {}
        self._sealing: FolderSealing | None = None

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

    async def names(self, pool: str) -> Collection[str]:
        names: list[str] = await self._run(self._named, pool)
        return names

    def _named(self, pool: str) -> list[str]:
        folder = self._folder / encode_name(pool)
        if not folder.is_dir():
            return []
        names = []
        with unavailable(folder):
            for name in os.listdir(folder):
                if name.endswith(SUFFIX) and not name.startswith("."):
                    with suppress(ValueError):
                        names.append(decode_name(name.removesuffix(SUFFIX)))
        return names

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
        came_of_it: Rewritten = await self._turns.take(part.pool, folder.path, work)
        return came_of_it

    async def finish_rewriting(self) -> None:
        for pool in await self.pools():
            folder = self._pool(pool)
            await self._turns.take(pool, folder.path, partial(sealing_work.finish, folder, self._files))

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

    def _pool(self, pool: str) -> PoolFolder:
        # Encoded like an account's name, so that no pool's name leads out of the folder.
        folder = self._pools.get(pool)
        if folder is None:
            made = PoolFolder(pool, self._folder / encode_name(pool), self._files)
            folder = self._pools.setdefault(pool, made)
            folder.sealing = self._sealing  # once it is in its place, or one that comes meanwhile would pass it by
        return folder
