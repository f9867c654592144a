"""Writing accounts of one pool that are ready at about the same time together: each write waits for the disk."""

import asyncio

from authpool.accounts.account import Account, AccountKey
from authpool.errors import HoldLostError
from authpool.store import Change, Hold, Store
from authpool.store.updates_many import Changed, UpdatesMany

GATHER_SECONDS = 0.01
"""So long others are waited for: to write five accounts together costs half of what it costs one by one."""


class GroupedWrites:
    """Takes one account from each of several tasks, and writes what has come while the disk was busy."""

    def __init__(self, store: Store, pool: str) -> None:
        self._store = store
        self._pool = pool
        self._waiting: dict[AccountKey, tuple[Change, asyncio.Future[Account | None]]] = {}
        self._writing: asyncio.Task[None] | None = None

    async def update(self, hold: Hold, change: Change) -> Account | None:
        """As `Hold.update` with `replace_broken`."""
        if not isinstance(self._store, UpdatesMany):
            return await hold.update(change, replace_broken=True)
        if hold.lost:
            raise HoldLostError(f"{hold.key} is not held any more")
        landed: asyncio.Future[Account | None] = asyncio.get_running_loop().create_future()
        self._waiting[hold.key] = (change, landed)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all(self._store), name="authpool import writes")
        return await landed

    async def _write_all(self, store: UpdatesMany) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_SECONDS)
            batch, self._waiting = self._waiting, {}
            done: dict[AccountKey, Changed]
            try:
                done = dict(await store.update_many(self._pool, {key: change for key, (change, _) in batch.items()}))
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
                done = dict.fromkeys(batch, error)
            for key, (_, landed) in batch.items():
                _tell(landed, done[key])


def _tell(landed: "asyncio.Future[Account | None]", changed: Changed) -> None:
    if landed.done():  # whoever waited has left
        return
    if isinstance(changed, Exception):
        landed.set_exception(changed)
    else:
        landed.set_result(changed)
