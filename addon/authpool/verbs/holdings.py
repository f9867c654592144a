"""The accounts as a command finds them: in the pools of a running gateway, else in the store."""

import asyncio
import difflib
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress

from authpool.accounts.account import Account, AccountKey, BrokenAccount
from authpool.config import PoolConfig
from authpool.errors import (
    BrokenAccountError,
    RefusedError,
    SealedError,
    StoreUnavailableError,
    UnknownAccountError,
    mistakes_placed,
)
from authpool.gateway.service import Service
from authpool.pool.pool import Member
from authpool.store import Change, Hold, NamesAccounts, SealsSecrets

PATIENCE_SECONDS = 60.0
"""So long a command waits for an account that another process or task holds."""


class Holdings:
    """What the verbs share: finding pools and accounts, changing one, and waiting for it with an end."""

    def __init__(self, service: Service, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._service = service
        self.patience_seconds = patience_seconds

    @property
    def live(self) -> bool:
        """Whether this process serves these accounts, rather than looks after them from the command line."""
        return bool(self._service.snapshot.pools)

    def pool(self, name: str) -> PoolConfig:
        """Find a pool. Raises RefusedError; the name is not repeated, it may be a secret in the wrong place."""
        pools = self._service.snapshot.config.pools
        if name in pools:
            return pools[name]
        if not pools:
            raise RefusedError(
                "there are no pools yet: authpool.toml describes none. Add a [pools.NAME] to it; "
                "the file that `authpool init` writes has examples to take the # off",
                error_code="unknown_pool",
            )
        raise RefusedError(f"there is no such pool. {_near(name, pools)}", error_code="unknown_pool")

    async def key(self, address: str) -> AccountKey:
        """Read POOL/NAME of a configured pool. Raises RefusedError, StoreUnavailableError."""
        key = await self.any_key(address)
        if key.pool not in self._service.snapshot.config.pools:
            raise RefusedError(
                f"the pool of {key} is not configured: describe it in authpool.toml, or move the account: "
                f"authpool move {key} POOL"
            )
        return key

    async def any_key(self, address: str) -> AccountKey:
        """Read POOL/NAME of any pool that the store has accounts of. Raises RefusedError, StoreUnavailableError."""
        key = _parsed(address)
        pools = self._service.snapshot.config.pools
        if key.pool not in pools and key.pool not in await self._service.unconfigured.pools(pools):
            self.pool(key.pool)
        return key

    async def members(self, pools: Collection[str]) -> list[Member]:
        """Every account of these pools, with what this process knows of it."""
        if self.live:
            return [m for name, pool in self._service.snapshot.pools.items() if name in pools for m in pool]
        records = await self._service.ownership.shown(await self._service.store.load(pools))
        return [Member(record) for record in records.values()]

    async def names(self, pool: str) -> list[str]:
        """What the accounts of a pool are called, in order. Raises RefusedError, StoreError."""
        service = self._service
        configured = service.snapshot.config.pools
        left = pool not in configured
        if left and pool not in await service.unconfigured.pools(configured):
            self.pool(pool)  # raises
        if isinstance(service.store, NamesAccounts) and (left or not self.live):
            return sorted(await service.store.names(pool), key=str.casefold)
        members = await (self.unconfigured() if left else self.members([pool]))
        return sorted((member.record.name for member in members if member.key.pool == pool), key=str.casefold)

    async def unconfigured(self) -> list[Member]:
        """Every account of pools that the configuration does not describe any more."""
        records = await self._service.unconfigured.look(self._service.snapshot.config.pools)
        return [Member(record) for record in records.values()]

    async def everyone(self) -> list[Account]:
        """Every account that can be read, as it is stored, of every pool that there ever was."""
        await self.follow()
        service = self._service
        configured = service.ownership.accounts()
        if not self.live:
            records = await service.store.load(service.snapshot.config.pools.keys())
            configured = [record for record in records.values() if isinstance(record, Account)]
        left = await service.unconfigured.look(service.snapshot.config.pools)
        return [*configured, *(record for record in left.values() if isinstance(record, Account))]

    async def unreadable(self) -> list[BrokenAccount]:
        """Every account whose record can't be read, or not be opened, of every pool that there ever was."""
        service = self._service
        if self.live:
            shown = [member.record for pool in service.snapshot.pools.values() for member in pool]
        else:
            shown = list((await service.store.load(service.snapshot.config.pools.keys())).values())
        left = await service.unconfigured.look(service.snapshot.config.pools)
        broken = [record for record in [*shown, *left.values()] if isinstance(record, BrokenAccount)]
        return [record for record in broken if record.pool not in service.snapshot.pools or await self._unread(record)]

    async def _unread(self, record: BrokenAccount) -> bool:
        """A copy of another account counts as broken in a gateway, and can be read all the same."""
        try:
            await self._service.store.read(record.key)
        except (BrokenAccountError, SealedError):
            return True
        except UnknownAccountError:
            return False
        return False

    def require_secret(self, pool: PoolConfig, account: Account | None = None) -> None:
        """Before a token endpoint is asked: look the client's secret, or key, up. Raises ConfigurationError."""
        if pool.client is not None and (account is None or account.client is None):
            with mistakes_placed(self._service.home):
                pool.client.secret()
                if pool.client.client_key is not None:
                    pool.client.client_key.read()

    async def require_open(self) -> None:
        """Before anything is asked of a provider: see that what comes of it can be written. Raises SealedError."""
        store = self._service.store
        if isinstance(store, SealsSecrets) and (why := await store.locked()):
            raise SealedError(why)

    async def read(self, address: str) -> Account:
        """Read one account as it is stored. Raises RefusedError when there is none, BrokenAccountError."""
        return await self.read_key(await self.key(address))

    async def read_key(self, key: AccountKey) -> Account:
        """Read one account, of whatever pool. Raises RefusedError when there is none, BrokenAccountError."""
        try:
            return await self._service.store.read(key)
        except UnknownAccountError:
            raise await self.unknown(key) from None

    async def unknown(self, key: AccountKey) -> RefusedError:
        """What to raise when there is no such account: it names those that were likely meant."""
        if key.pool in self._service.snapshot.config.pools:
            names = [member.record.name for member in await self.members([key.pool])]
        else:
            names = [member.record.name for member in await self.unconfigured() if member.key.pool == key.pool]
        if not names:
            return RefusedError(f"there is no account {key}: the pool has none yet", error_code="unknown_account")
        return RefusedError(f"there is no account {key}. {_near(key.name, names)}", error_code="unknown_account")

    async def update(self, address: str, change: Change) -> Account:
        """Change an account that is there. Raises RefusedError when there is none, StoreError."""
        key = await self.key(address)
        stored = await self._service.store.update(key, change)
        if stored is None:
            raise await self.unknown(key)
        await self.follow()
        return stored

    async def follow(self) -> None:
        """Let a gateway in this process see at once what was written; others see it within a second."""
        if self.live:
            with suppress(StoreUnavailableError):  # whoever follows the store will say so
                await self._service.catch_up()

    def held(self, key: AccountKey) -> AbstractAsyncContextManager[Hold]:
        """Hold the account. Raises RefusedError when others don't let go of it."""
        return self.patiently(self._service.store.hold(key), f"{key} is held by another process")

    @asynccontextmanager
    async def patiently[T](self, lock: AbstractAsyncContextManager[T], held: str) -> AsyncIterator[T]:
        """Hold what has no time limit of its own. Raises RefusedError, saying what is `held`."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.patience_seconds):
                    taken = await stack.enter_async_context(lock)
            except TimeoutError:
                raise RefusedError(f"{held} that does not move on; try again later", error_code="busy") from None
            yield taken


def _parsed(address: str) -> AccountKey:
    try:
        return AccountKey.parse(address)
    except ValueError:
        raise RefusedError("write the account as POOL/NAME; `authpool accounts` lists them") from None


def _near(word: str, known: Collection[str]) -> str:
    spelled = {name.casefold(): name for name in known}
    close = [spelled[name] for name in difflib.get_close_matches(word.casefold(), spelled, n=3)]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    few = sorted(spelled.values())[:8]
    return f"There {'is' if len(spelled) == 1 else 'are'}: {', '.join(few)}{', ...' if len(spelled) > len(few) else ''}"
