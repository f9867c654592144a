"""What a running gateway does all the time: follow the store, keep tokens alive, take accounts back, follow keys."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from authpool.clock import Clock
from authpool.errors import AuthpoolError, StoreUnavailableError
from authpool.gateway.pieces import in_pieces
from authpool.pool.pool import Pool
from authpool.refresh.schedule import RefreshSchedule
from authpool.requests.limits import Limits
from authpool.store import Store
from authpool.supervision import supervised

logger = logging.getLogger(__name__)

TAKE_BACK_SECONDS = 0.5
"""So often accounts are taken back whose quota is full again."""


class Upkeep:
    """Endless tasks, each begun again when it dies. `take_in` takes in what the store tells, or reloads."""

    def __init__(
        self,
        *,
        pools: Callable[[], Mapping[str, Pool]],
        store: Store,
        take_in: Callable[[], Awaitable[None]],
        follow_keys: Callable[[], Awaitable[None]],
        schedule: RefreshSchedule,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._pools = pools
        self._store = store
        self._take_in = take_in
        self._follow_keys = follow_keys
        self._schedule = schedule
        self._limits = limits
        self._clock = clock
        self._store_trouble = ""
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        endless = {
            "follower": self._follow,
            "refresh schedule": self._keep,
            "quota clock": self._take_back,
            "gateway keys": self._follow_keys,
        }
        self._tasks = [
            asyncio.create_task(supervised(name, make, self._clock), name=f"authpool {name}")
            for name, make in endless.items()
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def plan(self) -> None:
        """Plan the next refresh of every account."""
        for pool in self._pools().values():
            async for member in in_pieces(list(pool)):
                if pool.get(member.key) is member:
                    self._schedule.plan(member)

    async def _follow(self) -> None:
        while True:
            await self._store.wait_for_changes()
            try:
                await self._take_in()
                if self._store_trouble:
                    self._store_trouble = ""
                    logger.warning("The accounts can be read again")
            except StoreUnavailableError as error:
                if str(error) != self._store_trouble:  # once, not every time
                    self._store_trouble = str(error)
                    logger.error("The accounts can't be read; the pool goes on with what it has: %s", error)
            except AuthpoolError as error:
                logger.error("%s The old configuration stays in force.", error)

    async def _keep(self) -> None:
        await self.plan()  # also when the schedule died: whose turn it was is planned no more
        await self._schedule.run()

    async def _take_back(self) -> None:
        while True:
            await self._clock.sleep(TAKE_BACK_SECONDS)
            self._limits.take_back(self._pools().values())
