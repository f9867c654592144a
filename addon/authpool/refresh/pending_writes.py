"""What the store would not take: kept in memory and tried again, under the lock, until it is written."""

import asyncio
import logging
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

from authpool.accounts.account import Account, AccountKey
from authpool.clock import Clock
from authpool.errors import HoldLostError
from authpool.refresh.conditional_change import SupersededError
from authpool.refresh.held_account import HeldAccount
from authpool.store import Change, Hold

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.2, 5.0)


@dataclass(slots=True, kw_only=True)
class _Unwritten:
    account: Account
    change: Change
    hold: Hold
    granted: bool

    async def write(self) -> None:
        await (self.hold.keep_granted(self.change) if self.granted else self.hold.update(self.change))


class PendingWrites:
    """Holds the accounts whose record on disk is behind: the refresh token there is spent, or known to be dead."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._unwritten: dict[AccountKey, _Unwritten] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, key: AccountKey) -> Account | None:
        """The account as it would be on disk, had it been written."""
        unwritten = self._unwritten.get(key)
        return None if unwritten is None else unwritten.account

    def write_later(self, account: Account, change: Change, held: HeldAccount, *, granted: bool) -> None:
        """Keep trying, and keep the account held: nobody may present what is stored now.

        What was `granted` is written whether it is still held or not; a verdict is not.
        """
        self._unwritten[account.key] = _Unwritten(account=account, change=change, hold=held.hold, granted=granted)
        writing = self._keep_trying(account.key, held.stack.pop_all())
        # At once: cancelled before its first step it would never let go of the account.
        loop = asyncio.get_running_loop()
        task = asyncio.Task(writing, loop=loop, name=f"write {account.address}", eager_start=True)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Try a last time; what is not written then is lost, and said so."""
        for key in list(self._unwritten):
            await self._try(key)
        for unwritten in self._unwritten.values():
            logger.error(
                "What became of %s could never be written and is lost now: re-add it", unwritten.account.address
            )
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_trying(self, key: AccountKey, held: AsyncExitStack) -> None:
        pause, longest = RETRY_SECONDS
        async with held:
            while key in self._unwritten:
                await self._clock.sleep(pause * self._rng.uniform(0.5, 1.5))
                pause = min(pause * 2, longest)
                await self._try(key)

    async def _try(self, key: AccountKey) -> None:
        unwritten = self._unwritten.get(key)
        if unwritten is None:
            return
        try:
            await unwritten.write()
        except SupersededError:
            pass  # removed, or re-added by hand: theirs counts
        except HoldLostError:
            logger.warning("That %s is disabled is not written: it is not held any more", unwritten.account.address)
        except Exception:  # noqa: BLE001 - for whatever reason: this is the only place where the token is
            return
        else:
            logger.warning("The record of %s is written now", unwritten.account.address)
        self._unwritten.pop(key, None)
