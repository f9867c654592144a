"""The accounts as a command finds them: in the pools of a running gateway, else in the store."""

import asyncio
import difflib
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress

from authpool.account import Account, AccountKey
from authpool.config import PoolConfig
from authpool.errors import RefusedError, StoreUnavailableError, UnknownAccountError
from authpool.pool import Member
from authpool.service import Service
from authpool.store import Change

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
                "the file that `authpool init` writes has examples to take the # off"
            )
        raise RefusedError(f"there is no such pool. {_near(name, pools)}")

    def key(self, address: str) -> AccountKey:
        """Read POOL/NAME of a configured pool. Raises RefusedError."""
        try:
            key = AccountKey.parse(address)
        except ValueError:
            raise RefusedError("write the account as POOL/NAME; `authpool accounts` lists them") from None
        self.pool(key.pool)
        return key

    async def members(self, pools: Collection[str]) -> list[Member]:
        """Every account of these pools, with what this process knows of it."""
        if self.live:
            return [m for name, pool in self._service.snapshot.pools.items() if name in pools for m in pool]
        records = await self._service.store.load(pools)
        return [Member(record) for record in records.values()]

    async def read(self, address: str) -> Account:
        """Read one account as it is stored. Raises RefusedError when there is none, BrokenAccountError."""
        key = self.key(address)
        try:
            return await self._service.store.read(key)
        except UnknownAccountError:
            raise await self.unknown(key) from None

    async def unknown(self, key: AccountKey) -> RefusedError:
        """What to raise when there is no such account: it names those that were likely meant."""
        names = [member.record.name for member in await self.members([key.pool])]
        if not names:
            return RefusedError(f"there is no account {key}: the pool has none yet")
        return RefusedError(f"there is no account {key}. {_near(key.name, names)}")

    async def update(self, address: str, change: Change) -> Account:
        """Change an account that is there. Raises RefusedError when there is none, StoreError."""
        key = self.key(address)
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

    def held(self, key: AccountKey) -> AbstractAsyncContextManager[None]:
        """Hold the account's lock. Raises RefusedError when others don't let go of it."""
        return self.patiently(self._service.store.lock(key), f"{key} is held by another process")

    @asynccontextmanager
    async def patiently(self, lock: AbstractAsyncContextManager[None], held: str) -> AsyncIterator[None]:
        """Hold a lock that has no time limit of its own. Raises RefusedError, saying what is `held`."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.patience_seconds):
                    await stack.enter_async_context(lock)
            except TimeoutError:
                raise RefusedError(f"{held} that does not move on; try again later") from None
            yield


def _near(word: str, known: Collection[str]) -> str:
    spelled = {name.casefold(): name for name in known}
    close = [spelled[name] for name in difflib.get_close_matches(word.casefold(), spelled, n=3)]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    few = sorted(spelled.values())[:8]
    return f"There {'is' if len(spelled) == 1 else 'are'}: {', '.join(few)}{', ...' if len(spelled) > len(few) else ''}"
