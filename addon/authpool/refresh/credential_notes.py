"""What is found of credentials, written down: under each account's lock, one after the other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.events import AccountEvent, Notify
from authpool.clock import Clock
from authpool.errors import AuthpoolError, BrokenAccountError, UnknownAccountError
from authpool.refresh.credential_rules import CopyOf, Spent, restored_reason
from authpool.store import Hold, Store
from authpool.store.trail_index import CredentialTrail

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
TOLD_LATE = "told late: who did it was ended before it could write that down"


class CredentialNotes:
    """Writes that an account is held back, and what the trail lacks. `find` judges an account as it is now."""

    def __init__(
        self,
        store: Store,
        trail: CredentialTrail,
        clock: Clock,
        notify: Notify,
        find: Callable[[Account], Awaitable[CopyOf | Spent | None]],
    ) -> None:
        self._store = store
        self._trail = trail
        self._clock = clock
        self._notify = notify
        self._find = find
        self._unwritten_yet: dict[AccountKey, None] = {}
        self._told: set[AccountKey] = set()
        self.writing: asyncio.Task[None] | None = None

    def write_soon(self, key: AccountKey) -> None:
        """Look at an account again under its lock, and write down what is found."""
        self._unwritten_yet.setdefault(key)
        if self.writing is None or self.writing.done():
            self.writing = asyncio.create_task(self._write_all(), name="hold back restored accounts")

    async def aclose(self) -> None:
        """Let what is being written now be written; the rest is held back by whoever comes next."""
        for key in list(self._unwritten_yet)[1:]:
            del self._unwritten_yet[key]
        if self.writing is not None:
            await asyncio.wait([self.writing], timeout=PATIENCE_SECONDS)
            self.writing.cancel()
            await asyncio.gather(self.writing, return_exceptions=True)

    async def _write_all(self) -> None:
        """One after the other: a restored backup may be of thousands of accounts."""
        while self._unwritten_yet:
            key = next(iter(self._unwritten_yet))
            try:
                async with self._store.hold(key) as hold:  # whoever took it back by force has said so by now
                    account = await hold.read()
                    found = await self._find(account)
                    if isinstance(found, Spent):
                        await self.hold_back(hold, account, found)
                    elif found is None:
                        self.tell_late(account)
                self._told.discard(key)
            except (UnknownAccountError, BrokenAccountError):
                pass  # whoever follows the store says so
            except AuthpoolError as error:
                if key not in self._told:  # once, not every time
                    self._told.add(key)
                    logger.error("%s is held back, and that can't be written: %s", key, error)
            self._unwritten_yet.pop(key, None)

    def tell_late(self, account: Account) -> None:
        """Write into the trail what only the record says of its last exchange. Under its lock."""
        if self._trail.take_in(account):
            self._notify(AccountEvent(kind="rotated", account=account, reason=TOLD_LATE, replaced=account.replaced))

    async def hold_back(self, hold: Hold, account: Account, found: Spent) -> Account | None:
        """Write down that the account is held back, while it holds that token. Under its lock."""
        now = self._clock.time()
        before: Account | None = None

        def disable(current: Account | None) -> Account | None:
            nonlocal before
            before = current
            same = current is not None and current.token.refresh_token == account.token.refresh_token
            if current is None or not same or current.disabled:
                return current
            return current.with_disabled(restored_reason(current, found), now)

        stored = await hold.update(disable)
        if stored is not None and stored is not before:
            self._notify(AccountEvent(kind="disabled", account=stored, reason=stored.disabled_reason or ""))
        return stored
