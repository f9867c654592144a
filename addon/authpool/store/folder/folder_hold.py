"""A hold on an account of a folder: the kernel keeps its lock for as long as the process lives."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

from authpool.accounts.account import Account, AccountKey
from authpool.errors import HoldLostError
from authpool.store import Change

REMOVAL_SECONDS = 0.5
"""An editor that saves by renaming leaves a moment without a file: a removal is believed the second time."""


class _Update(Protocol):
    async def __call__(self, change: Change, *, replace_broken: bool = False) -> Account | None: ...


class _GoneError(Exception):
    """The file that was there a moment ago is not there."""


class FolderHold:
    """`authpool.store.Hold` of a kernel's lock: it has no deadline, and is lost when it is let go."""

    deadline = None

    def __init__(
        self,
        key: AccountKey,
        read: Callable[[], Awaitable[Account]],
        update: _Update,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.key = key
        self.fence = secrets.token_hex(8)
        self.lost = False
        self._read = read
        self._update = update
        self._sleep = sleep
        self._there = False
        """Whether the account was there when this hold looked last."""

    async def read(self) -> Account:
        self._check()
        account = await self._read()
        self._there = True
        return account

    async def update(self, change: Change, *, replace_broken: bool = False) -> Account | None:
        self._check()
        return await self._change(change, replace_broken=replace_broken)

    async def keep_granted(self, change: Change) -> Account | None:
        return await self._change(change)

    def _check(self) -> None:
        if self.lost:
            raise HoldLostError(f"{self.key} is not held any more")

    async def _change(self, change: Change, *, replace_broken: bool = False) -> Account | None:
        """Change what is there; where it was there before and is not now, look a second time first."""

        def if_there(current: Account | None) -> Account | None:
            if current is None:
                raise _GoneError
            return change(current)

        try:
            stored = await self._update(if_there if self._there else change, replace_broken=replace_broken)
        except _GoneError:
            await self._sleep(REMOVAL_SECONDS)
            stored = await self._update(change, replace_broken=replace_broken)
        self._there = stored is not None
        return stored
