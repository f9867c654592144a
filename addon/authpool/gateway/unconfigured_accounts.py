"""Accounts of pools that authpool.toml does not describe any more: they hold live credentials all the same."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping

from authpool.accounts.account import AccountKey
from authpool.store import ListsPools, Record, Store

logger = logging.getLogger(__name__)


class UnconfiguredAccounts:
    """Finds them. `open_store` opens another view of the store, so that what is followed is not disturbed."""

    def __init__(self, store: Store, open_store: Callable[[], Awaitable[Store]]) -> None:
        self._store = store
        self._open_store = open_store
        self.records: Mapping[AccountKey, Record] = {}
        """As they were when somebody looked last."""

    async def pools(self, configured: Collection[str]) -> list[str]:
        """The pools that the store has, and the configuration has not. Raises StoreUnavailableError."""
        if not isinstance(self._store, ListsPools):
            return []
        return sorted(set(await self._store.pools()) - set(configured))

    async def of(self, pools: Collection[str]) -> Mapping[AccountKey, Record]:
        """Read every account of these pools, as they are stored now. Raises StoreUnavailableError."""
        return await (await self._open_store()).load(pools)

    async def look(self, configured: Collection[str]) -> Mapping[AccountKey, Record]:
        """Read every account of those pools. Raises StoreUnavailableError."""
        pools = await self.pools(configured)
        self.records = await self.of(pools) if pools else {}
        return self.records

    def tell(self) -> None:
        """Warn of each such pool, once for each start or reload."""
        for pool, count in sorted(Counter(key.pool for key in self.records).items()):
            accounts = "1 account" if count == 1 else f"{count} accounts"
            logger.warning(
                "Pool %s is not configured, and the home holds %s of it, which nothing refreshes: describe it in "
                "authpool.toml, or move them: authpool move %s/NAME POOL",
                pool,
                accounts,
                pool,
            )
