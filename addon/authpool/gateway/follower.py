"""Following the store: what changed there, by anybody's hand, is in the pools a moment later."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from authpool.accounts.account import Account, AccountKey
from authpool.clock import Clock
from authpool.pool.pool import Pool, State
from authpool.pool.report import disabled_line, reload_line
from authpool.refresh.credential_ownership import Ownership
from authpool.refresh.refresher import Refresher
from authpool.refresh.replaced_tokens import TokenRestorer
from authpool.refresh.schedule import RefreshSchedule
from authpool.store import Record, Store
from authpool.supervision import place

logger = logging.getLogger(__name__)


class Follower:
    """Takes in changes of records. `pools` gives the pools of the moment."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, Pool]],
        store: Store,
        refresher: Refresher,
        restorer: TokenRestorer,
        schedule: RefreshSchedule,
        clock: Clock,
        ownership: Ownership,
    ) -> None:
        self._pools = pools
        self._store = store
        self._refresher = refresher
        self._restorer = restorer
        self._schedule = schedule
        self._clock = clock
        self.alone = asyncio.Lock()
        """Held while changes are asked for and taken in: what the store tells it tells once, and in order."""
        self._begun = 0
        self._landed = 0
        """The number of the last catch-up that came to its end."""

        self._ownership = ownership
        self._told: dict[AccountKey, int | None] = {}
        """By account since when it is disabled that the log says is disabled."""

    async def catch_up(self) -> None:
        """Take in what changed in the store, by anybody's hand. Raises StoreUnavailableError.

        One at a time. Who comes during one waits for the next, which all who came meanwhile share.
        """
        # Whoever leaves leaves nothing behind: what the store tells it tells once.
        await asyncio.shield(asyncio.ensure_future(self._catch_up_alone(self._begun)))

    async def _catch_up_alone(self, begun: int) -> None:
        async with self.alone:
            if self._landed > begun:
                return
            self._begun += 1
            await self._catch_up()
            self._landed = self._begun

    async def _catch_up(self) -> None:
        touched: dict[str, Mapping[State, int]] = {}
        await self._refresher.recall()
        changes = await self._ownership.follow(await self._store.changes(), self._known)
        pools = self._pools()
        for key, record in changes.items():
            pool = pools.get(key.pool)
            if pool is None:
                continue
            touched.setdefault(key.pool, pool.counts())
            try:
                self._take_in(pool, key, record)
            except Exception as error:  # noqa: BLE001 - the others were told, too, and are told only once
                logger.error("A change of %s can't be taken in: %s at %s", key, type(error).__name__, place(error))
        for name, before in touched.items():
            counts = pools[name].counts()
            if counts != before:
                logger.info(reload_line(name, counts))

    def _known(self, key: AccountKey) -> Record | None:
        pool = self._pools().get(key.pool)
        member = None if pool is None else pool.get(key)
        return None if member is None else member.record

    def _take_in(self, pool: Pool, key: AccountKey, record: Record | None) -> None:
        before = pool.get(key)
        former = before.record if before is not None else None
        if record is None:
            self._refresher.removed(key)
            pool.remove(key)
            logger.info("Account %s was removed", former.address if former is not None else key)
            return
        record = self._restorer.ahead(record)
        self._restorer.compare(former, record)
        member = pool.put(record)
        self._schedule.plan(member)
        match member.state(self._clock.time()):
            case State.DISABLED:
                # While a refresh is under way it may be this process that passes the verdict, and tells of it.
                if not (isinstance(former, Account) and former.disabled) and not self._refresher.refreshing(key):
                    self.landed(key)
            case State.BROKEN:
                logger.error("Skipping broken account %s: %s", record.address, broken_reason(record))
            case State.SEALED:
                logger.error("Skipping sealed account %s: %s", record.address, broken_reason(record))
            case _ if isinstance(former, Account) and former.disabled and isinstance(record, Account):
                if record.token.refresh_token != former.token.refresh_token and not record.disabled:
                    logger.info("Account %s re-enabled: new refresh token", record.address)

    def landed(self, key: AccountKey) -> None:
        """A refresh is over, or an account was found disabled: say that it is, where nobody here has said so."""
        pool = self._pools().get(key.pool)
        member = None if pool is None else pool.get(key)
        record = None if member is None else member.record
        if isinstance(record, Account) and record.disabled and self._told.get(key, 0) != record.disabled_at:
            self.tell_disabled(record)

    def tell_disabled(self, account: Account) -> None:
        """Say that an account is left out."""
        self.disabled_here(account)
        logger.warning(disabled_line(account))

    def disabled_here(self, account: Account) -> None:
        """This process passed the verdict, and its log says so."""
        self._told[account.key] = account.disabled_at


def broken_reason(record: Record) -> str:
    """Why a record can't be read; nothing where it can."""
    return "" if isinstance(record, Account) else record.reason
