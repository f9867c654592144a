"""Undoing what an editor's old copy of an account's file would do, as soon as it is seen."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace

from authpool.accounts.account import Account, AccountKey
from authpool.errors import AuthpoolError
from authpool.refresh.refresher import Refresher
from authpool.store import Record
from authpool.supervision import tell_if_it_dies


class TokenRestorer:
    """Lets a refresher learn from what somebody did to the accounts."""

    def __init__(self, refresher: Refresher) -> None:
        self._refresher = refresher
        self._tasks: set[asyncio.Task[None]] = set()

    def compare(self, former: Record | None, record: Record) -> None:
        """The store has `record` where it had `former`; where that brought a spent token back, put its successor in."""
        if not isinstance(record, Account) or former == record:
            return
        if not isinstance(former, Account):
            self._refresher.loaded(record)
        elif self._refresher.followed(former, record):
            task = asyncio.create_task(self._heal(record.key), name=f"heal {record.address}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            tell_if_it_dies(task)

    def removed(self, key: AccountKey) -> None:
        """The account is gone: what comes under its name next is another one."""
        self._refresher.removed(key)

    def ahead(self, record: Record) -> Record:
        """What the store would say, where it has not taken the newest credential yet."""
        unwritten = self._refresher.unwritten(record.key)
        if unwritten is None or not isinstance(record, Account) or record.generation >= unwritten.generation:
            return record
        return replace(record, token=unwritten.token, generation=unwritten.generation, pending_refresh=None)

    def compare_all(self, former: Mapping[AccountKey, Record], records: Mapping[AccountKey, Record]) -> None:
        """The same for a whole store."""
        for key, record in records.items():
            self.compare(former.get(key), record)

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _heal(self, key: AccountKey) -> None:
        with contextlib.suppress(AuthpoolError):  # then the next refresh does it, before anything else
            await self._refresher.heal(key)
